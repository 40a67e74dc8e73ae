"""Drafts on disk: kept, launched once, and gone without a traceback."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lora_backend.config.drafts import DRAFT_ID, new_draft, open_draft
from lora_backend.errors import ConfigError


def test_a_draft_is_found_again_with_its_text(tmp_path: Path) -> None:
    draft = new_draft(tmp_path / "drafts", "r: 4  # 秩\n")
    draft.save("r: 8  # 秩\n")
    assert open_draft(tmp_path / "drafts", draft.id).text() == "r: 8  # 秩\n"
    assert DRAFT_ID.fullmatch(draft.id)
    assert draft.launches() == []


@pytest.mark.parametrize(
    "draft_id", ["../0123abcd", "0123ABCD", "0123abcd\n", "0123abcd/..", "g" * 8, "0" * 9, "\0" * 8, "０１２３４５６７"]
)
def test_what_is_no_id_is_refused(draft_id: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        open_draft(tmp_path, draft_id)


def test_launches_are_listed_in_order_beyond_nine(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "")
    for number in range(12):
        draft.launch_once(number, lambda number=number: f"run-{number}")  # type: ignore[misc]
    assert draft.launches() == [f"run-{number}" for number in range(12)]


def test_two_processes_launch_once(tmp_path: Path) -> None:
    """Two dashboards on one workspace, or the click that was sent again after a restart."""
    draft = new_draft(tmp_path, "")
    script = (
        "import os, time\nfrom pathlib import Path\nfrom lora_backend.config.drafts import open_draft\n"
        f"root = Path({str(tmp_path)!r})\n"
        "def launch():\n"
        "    (root / f'launched-{os.getpid()}').touch()\n"
        "    time.sleep(0.2)\n"
        "    return str(os.getpid())\n"
        f"print(open_draft(root, {draft.id!r}).launch_once(0, launch))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=60)[0] for process in running}
    assert len(answers) == 1
    assert len(list(tmp_path.glob("launched-*"))) == 1


def test_a_draft_that_was_deleted_is_a_sentence_whatever_is_asked_of_it(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "")
    shutil.rmtree(draft.path)
    assert draft.launches() == []
    for action in (draft.text, lambda: draft.save("r: 4\n"), lambda: draft.launch_once(0, lambda: "run")):
        with pytest.raises(ConfigError, match="does not exist"):
            action()
