"""A checkpoint that somebody else made, manifest and all: no code in it is run, what is wrong is said in a sentence of ours,
and the run goes on from the checkpoint before."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_backend.cli import main
from lora_backend.runs.checkpoints.manifest import checkpoints_of, verified, write_manifest
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.training.opening import unusable_files
from tests.training.helpers import adapter_bytes, resumed, run, stopped_at

Make = Callable[..., dict[str, Any]]
VALUES = {"max_steps": 9, "save_steps": 3, "lora_dropout": 0.1}
OPENED = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt")
NEVER_OPENED = ("training_args.bin", "adapter_model.bin")
USED = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.safetensors", "trainer_state.json", "progress.json")  # fmt: skip
GARBAGE: dict[str, bytes] = {
    "empty": b"", "text": b"no file of ours", "json": b"[1, 2]", "object": b"{}", "zip": b"PK\x03\x04" + bytes(64),
    "header": (2**40).to_bytes(8, "little") + b"{}", "pickle": pickle.dumps({"state": [], "step": 1}),
}  # fmt: skip


class Payload:
    """Pickled, it would make a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def _trained() -> dict[str, Path]:
    return {}


@pytest.fixture
def stopped(_trained: dict[str, Path], config: Make, workspace: Path) -> RunFolder:
    """Stopped after step 6, with checkpoints 3 and 6; 9 steps in all. Trained once, and copied for each test."""
    if not _trained:
        _trained["run"] = stopped_at(workspace, config(**VALUES), 5).path
    folder = RunFolder(workspace / "runs/stopped")
    shutil.copytree(_trained["run"], folder.path)
    assert [path.name for path in checkpoints_of(folder)] == ["checkpoint-3", "checkpoint-6"]
    return folder


def remade(checkpoint: Path, name: str, content: bytes | None = None, value: Any = None) -> None:
    """Another file in a checkpoint, and a manifest that agrees."""
    if content is None:
        torch.save(value, checkpoint / name)
    else:
        (checkpoint / name).write_bytes(content)
    (checkpoint / "manifest.json").unlink()
    write_manifest(checkpoint, int(checkpoint.name.split("-")[1]))
    assert verified(checkpoint) == []


def test_no_code_in_a_checkpoint_is_run_and_the_one_before_takes_its_place(
    stopped: RunFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in (*OPENED, *NEVER_OPENED):
        remade(checkpoints_of(stopped)[-1], name, value=Payload(tmp_path / "ran"))
    resumed(stopped)
    assert not (tmp_path / "ran").exists()
    assert (stopped.state().state, stopped.attempt()["resume_from"]) == ("finished", "checkpoint-3")
    log = stopped.train_log.read_text()
    assert "weights_only" not in log
    capfd.readouterr()
    assert main(["runs", "show", stopped.id, "--lang", "en"]) == 0
    shown = capfd.readouterr().out
    assert "goes on from checkpoint-3" in shown
    for name in OPENED:
        sentence = f"{name} of checkpoint-6 is damaged or unsafe and was not loaded."
        assert sentence in log
        assert sentence in shown


def test_files_that_nothing_opens_keep_nobody_from_going_on(stopped: RunFolder, tmp_path: Path) -> None:
    for name in NEVER_OPENED:
        remade(checkpoints_of(stopped)[-1], name, value=Payload(tmp_path / "ran"))
    resumed(stopped)
    assert not (tmp_path / "ran").exists()
    assert (stopped.state().state, stopped.attempt()["resume_from"]) == ("finished", "checkpoint-6")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", OPENED)
def test_each_file_with_code_in_it_is_named(name: str, zipped: bool, stopped: RunFolder, tmp_path: Path) -> None:
    newest = checkpoints_of(stopped)[-1]
    torch.save(Payload(tmp_path / "ran"), newest / name, _use_new_zipfile_serialization=zipped)
    assert unusable_files(newest) == [f"{name}: damaged or unsafe"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_in_any_file_is_named(kind: str, stopped: RunFolder) -> None:
    newest = checkpoints_of(stopped)[-1]
    assert unusable_files(newest) == []
    for name in USED:
        before = (newest / name).read_bytes()
        (newest / name).write_bytes(GARBAGE[kind])
        assert unusable_files(newest) == [f"{name}: damaged or unsafe"]
        (newest / name).write_bytes(before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer.pt", [1, 2]), ("optimizer.pt", {"state": {}, "param_groups": [{}]}), ("scheduler.pt", {"last_epoch": "x"}),
        ("rng_state.pth", {"python": 1, "numpy": 2, "cpu": 3}), ("rng_state.pth", torch.zeros(3)),
    ],
)  # fmt: skip
def test_harmless_values_that_are_no_state_are_named(name: str, value: Any, stopped: RunFolder) -> None:
    newest = checkpoints_of(stopped)[-1]
    remade(newest, name, value=value)
    assert unusable_files(newest) == [f"{name}: damaged or unsafe"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("trainer_state.json", {"global_step": 5}), ("trainer_state.json", {"log_history": [1]}),
        ("trainer_state.json", {"log_history": "x"}), ("progress.json", {"num_threads": 0}), ("progress.json", {"loss_sum": "x"}),
        ("progress.json", {"config": []}),
    ],
)  # fmt: skip
def test_json_that_lies_is_named(name: str, change: dict[str, Any], stopped: RunFolder) -> None:
    path = checkpoints_of(stopped)[-1] / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert unusable_files(path.parent) == [f"{name}: damaged or unsafe"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_file_that_would_be_loaded_in_the_adapters_place_is_none_of_a_checkpoint(
    name: str, stopped: RunFolder
) -> None:
    newest = checkpoints_of(stopped)[-1]
    remade(newest, name, b"")
    assert unusable_files(newest) == [f"{name}: is no file of a checkpoint"]


def test_what_does_not_fit_this_run_is_a_sentence(stopped: RunFolder) -> None:
    newest = checkpoints_of(stopped)[-1]
    remade(newest, "optimizer.pt", value={"state": {}, "param_groups": [{"params": [0], "lr": 1.0}]})
    with pytest.raises(ValueError, match=r"optimizer\.pt or scheduler\.pt of checkpoint-6 does not fit the run"):
        resumed(stopped)
    state = stopped.state()
    assert (state.state, state.cause) == ("failed", "run")


def test_where_none_before_is_good_the_run_begins_again_and_says_so(
    config: Make, workspace: Path, stopped: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in checkpoints_of(stopped):
        remade(path, "optimizer.pt", b"")
    resumed(stopped)
    assert stopped.attempt()["from_step"] == 0
    assert adapter_bytes(stopped) == adapter_bytes(run(workspace, config(**VALUES)))
    assert main(["runs", "show", stopped.id, "--lang", "en"]) == 0
    assert "began again at its first step" in capfd.readouterr().out
