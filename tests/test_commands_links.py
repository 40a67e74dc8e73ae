"""Commands over a run that somebody planted: what its links name is neither printed nor written to."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from lora_backend.cli import main
from tests.often import often
from tests.planted import FILES, NUMBER, SECRET, adapter, holds_secret, planted_run, tree

COMMANDS = [
    ["runs", "list"], ["runs", "list", "--filter", SECRET], ["runs", "show", "planted"], ["runs", "compare", "planted", "planted2"],
    ["runs", "stop", "planted"], ["runs", "resume", "planted"], ["runs", "queue"], ["verify", "planted"],
    ["verify", "{run}/adapter"], ["verify", "{run}"], ["check", "{run}/config.yaml"], ["train", "{run}/config.yaml", "--run-dir", "{run}"],
]  # fmt: skip
WHOLE = {"every file": FILES[1:], "run.json": ("run.json",), "every folder": ("attempts", "adapter", "checkpoints"), "the run": ("",), "the log": ("train.log",)}  # fmt: skip


@pytest.fixture
def outside(tmp_path: Path, workspace: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("as_json", "links"),
    often(product((False, True), WHOLE), {*product((False,), WHOLE), (True, "every file"), (True, "the run")}),
)
def test_a_command_prints_and_changes_nothing_behind_a_link(
    as_json: bool, words: list[str], links: str, workspace: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = planted_run(workspace / "runs", outside, WHOLE[links])
    planted_run(workspace / "runs", outside, WHOLE[links], "planted2")
    before = tree(outside)
    main([*(word.replace("{run}", str(run.path)) for word in words), *(["--json"] if as_json else []), "--lang", "en"])
    printed = capsys.readouterr()
    # A person may name any file to a command, by any way; what lies in a run is bound by the run.
    is_named = words[0] == "check" or (links == "the run" and "{run}" in " ".join(words))
    if not is_named:
        assert SECRET not in printed.out + printed.err
        assert str(NUMBER) not in printed.out + printed.err
    assert tree(outside) == before
    assert holds_secret(workspace) == []


def test_show_names_the_links(workspace: Path, outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted_run(workspace / "runs", outside, ("train.log", "labels.json"))
    main(["runs", "show", "planted", "--lang", "en"])
    assert "contains symbolic links, which are not followed: labels.json, train.log." in capsys.readouterr().out


def test_verify_takes_an_adapter_in_the_hubs_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = adapter(tmp_path / "blobs", "q_proj", 4)
    (tmp_path / "snapshot").mkdir()
    for file in made.iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(f"../blobs/{file.name}")
    main(["verify", str(tmp_path / "snapshot"), "--lang", "en"])
    assert "LoRA layer" in capsys.readouterr().out
