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
from safetensors.torch import load_file, save_file

from lora_backend.cli import main
from lora_backend.runs.checkpoints.manifest import checkpoints_of, verified, write_manifest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training_state.checkpoint_read import unusable_files
from tests.run_files import attempt_of
from tests.training.helpers import adapter_bytes, resumed, run, stopped_at

Make = Callable[..., dict[str, Any]]
VALUES = {"max_steps": 9, "save_steps": 3, "lora_dropout": 0.1}
USED = ("adapter/adapter_model.safetensors", "state.safetensors", "state.json")
NEVER_OPENED = ("optimizer.pt", "rng_state.pth", "training_args.bin", "adapter/adapter_model.bin", "model.safetensors")
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
def stopped(_trained: dict[str, Path], config: Make, workspace: Path) -> RunStore:
    """Stopped after step 6, with checkpoints 3 and 6; 9 steps in all. Trained once, and copied for each test."""
    if not _trained:
        _trained["run"] = stopped_at(workspace, config(**VALUES), 5).path
    folder = RunStore(workspace / "runs/stopped")
    shutil.copytree(_trained["run"], folder.path)
    assert [path.name for path in checkpoints_of(folder)] == ["checkpoint-3", "checkpoint-6"]
    return folder


def remade(checkpoint: Path) -> None:
    """A manifest that agrees with other files."""
    (checkpoint / "manifest.json").unlink()
    write_manifest(checkpoint, int(checkpoint.name.split("-")[1]))
    assert verified(checkpoint) == []


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", USED)
def test_no_code_in_a_checkpoint_is_run_and_the_one_before_takes_its_place(
    name: str, zipped: bool, stopped: RunStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    newest = checkpoints_of(stopped)[-1]
    torch.save(Payload(tmp_path / "ran"), newest / name, _use_new_zipfile_serialization=zipped)
    remade(newest)
    resumed(stopped)
    assert not (tmp_path / "ran").exists()
    assert (stopped.state().state, attempt_of(stopped)["resume_from"]) == ("finished", "checkpoint-3")
    capfd.readouterr()
    assert main(["runs", "show", stopped.id, "--lang", "en"]) == 0
    shown = capfd.readouterr().out
    assert "continues from checkpoint-3" in shown
    sentence = f"{name} of checkpoint-6 is damaged or unsafe and was not loaded."
    assert sentence in stopped.train_log.read_text()
    assert sentence in shown


def test_files_that_nothing_opens_keep_nobody_from_going_on(stopped: RunStore, tmp_path: Path) -> None:
    """Files that torch, transformers or PEFT would take for a part of a checkpoint among them."""
    newest = checkpoints_of(stopped)[-1]
    for name in NEVER_OPENED:
        torch.save(Payload(tmp_path / "ran"), newest / name)
    remade(newest)
    resumed(stopped)
    assert not (tmp_path / "ran").exists()
    assert (stopped.state().state, attempt_of(stopped)["resume_from"]) == ("finished", "checkpoint-6")


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_in_any_file_is_named(kind: str, stopped: RunStore) -> None:
    newest = checkpoints_of(stopped)[-1]
    assert unusable_files(newest) == []
    for name in USED:
        before = (newest / name).read_bytes()
        (newest / name).write_bytes(GARBAGE[kind])
        assert unusable_files(newest) == [f"{name}: damaged or unsafe"]
        (newest / name).write_bytes(before)


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no step": lambda it: it["state"]["progress"].pop("step"),
    "another step": lambda it: it["state"]["progress"].update(step=5),
    "a step in words": lambda it: it["state"]["progress"].update(step="6"),
    "evaluations that are no table": lambda it: it["state"]["progress"].update(evaluations=[1]),
    "no threads": lambda it: it.update(num_threads=0),
    "a loss in words": lambda it: it["state"].update(loss_sum="x"),
    "a list for a config": lambda it: it.update(config=[]),
    "an optimizer that is none": lambda it: it["state"].update(optimizer=[1, 2]),
    "groups without parameters": lambda it: it["state"].update(optimizer={"state": {}, "param_groups": [{}]}),
    "a schedule in words": lambda it: it["state"].update(schedule={"last_epoch": "x"}),
    "random numbers that are none": lambda it: it["state"].update(random={"python": 1, "numpy": 2, "torch": 3}),
    "a tensor that is not there": lambda it: it["state"]["random"].update(torch={"$tensor": "nowhere"}),
    "nothing": lambda it: it.pop("state"),
}


@pytest.mark.parametrize("lie", LIES)
def test_json_that_lies_is_named(lie: str, stopped: RunStore) -> None:
    path = checkpoints_of(stopped)[-1] / "state.json"
    written = json.loads(path.read_text())
    LIES[lie](written)
    path.write_text(json.dumps(written))
    assert unusable_files(path.parent) == ["state.json: damaged or unsafe"]


def test_a_random_state_of_another_size_is_named(stopped: RunStore) -> None:
    path = checkpoints_of(stopped)[-1] / "state.safetensors"
    save_file(load_file(path) | {"state.random.torch": torch.zeros(3, dtype=torch.uint8)}, path)
    assert unusable_files(path.parent) == ["state.json: damaged or unsafe"]


@pytest.mark.parametrize("others", [3, [3], [{"python": [3, [1, 2], None]}]], ids=str)
def test_random_states_of_other_processes_are_read_as_carefully(others: Any, stopped: RunStore) -> None:
    path = checkpoints_of(stopped)[-1] / "state.json"
    written = json.loads(path.read_text())
    written["state"]["random_of_peers"] = others
    path.write_text(json.dumps(written))
    assert unusable_files(path.parent) == ["state.json: damaged or unsafe"]


def test_what_does_not_fit_this_run_is_a_sentence(stopped: RunStore) -> None:
    newest = checkpoints_of(stopped)[-1]
    written = json.loads((newest / "state.json").read_text())
    written["state"]["optimizer"] = {"state": {}, "param_groups": [{"params": [0], "lr": 1.0}]}
    (newest / "state.json").write_text(json.dumps(written))
    remade(newest)
    with pytest.raises(ValueError, match=r"state\.json of checkpoint-6 does not fit the run"):
        resumed(stopped)
    state = stopped.state()
    assert (state.state, state.cause) == ("failed", "run")


def test_where_none_before_is_good_the_run_begins_again_and_says_so(
    config: Make, workspace: Path, stopped: RunStore, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in checkpoints_of(stopped):
        (path / "state.safetensors").write_bytes(b"")
        remade(path)
    resumed(stopped)
    assert attempt_of(stopped)["from_step"] == 0
    assert adapter_bytes(stopped) == adapter_bytes(run(workspace, config(**VALUES)))
    assert main(["runs", "show", stopped.id, "--lang", "en"]) == 0
    assert "started again from the first step" in capfd.readouterr().out
