"""A disk that is full, read-only or closed to us: whatever is tried on a page ends in one sentence with folder and remedy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lora_backend.installation import child_environment
from tests.runs.conftest import faults  # noqa: F401 - the fixture

ROOT = Path(__file__).parents[2]
REMEDIES = {
    None: "There is no space left in {folder}",
    30: "{folder} is read-only. Make it writable, or set FLIGHTDECK_WORKSPACE to another folder and start again.",
    13: "do not allow this. Change them, or set FLIGHTDECK_WORKSPACE to another folder and start again.",
}
"""Number of the error → what every try that writes has to say."""
POSSIBLE_WHEN_FULL = {"delete draft", "restore draft", "delete", "put back", "empty bin"}
"""They take nothing, and are how room is made."""


@pytest.mark.parametrize(
    "number",
    [None, *(pytest.param(number, marks=pytest.mark.soak) for number in (30, 13))],
    ids=["full", "read-only", "closed"],
)
def test_no_page_and_no_button_breaks_on_a_disk_that_refuses(
    number: int | None,
    tmp_path: Path,
    tiny_model: Path,
    faults: Path,  # noqa: F811
) -> None:
    shutil.copytree(tiny_model, tmp_path / "m")
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    workspace = tmp_path / "ws"
    environment = child_environment(
        FLIGHTDECK_WORKSPACE=str(workspace),
        FLIGHTDECK_HOME=str(tmp_path / "home"),
        FLIGHTDECK_MODEL_ROOTS=str(tmp_path),
        FLIGHTDECK_DATA_ROOTS=str(tmp_path),
        LD_PRELOAD=str(faults),
        FAULT_PATH=str(workspace),
        FAULT_WHEN=str(tmp_path / "flag"),
        **({"FAULT_ERRNO": str(number)} if number else {}),
    )
    command = [sys.executable, "-m", "tests.pages.no_room", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    assert {name: one["exception"] for name, one in found.items() if one["exception"]} == {}
    silent, left = [], []
    for name, one in found.items():
        said = " ".join(one["said"])
        assert "Errno" not in said, name
        is_look = name.startswith(("page", "in Chinese"))
        if not is_look and (number or name not in POSSIBLE_WHEN_FULL) and not _says(said, REMEDIES[number], workspace):
            silent.append((name, one["said"]))
        if one["new runs"] and name != "put back":
            left.append(name)
    assert silent == []
    assert left == [], "a run that was refused leaves no folder"
    assert len(found) > 35
    assert not list((workspace / "drafts").glob("*/.config.yaml.*"))


def _says(said: str, sentence: str, workspace: Path) -> bool:
    before, _, after = sentence.partition("{folder}")
    plain = said.replace("\\", "")
    return before in plain and after in plain and str(workspace) in plain
