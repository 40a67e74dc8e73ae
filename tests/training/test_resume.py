"""A run that was interrupted goes on as if nothing had happened: the same adapter, the same curve, to the last bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_backend.errors import ConfigError, RunError
from lora_backend.installation import this_installation
from lora_backend.launching.resume import prepare_resume
from lora_backend.launching.run_config import bound_before
from lora_backend.runs.checkpoints.manifest import checkpoints_of, verified, write_manifest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.training import evaluation_pass, loop
from tests.run_files import attempt_of, points_of
from tests.training.helpers import adapter_bytes, at_line, curve, made, made_ready, resumed, run, stopped_at

Make = Callable[..., dict[str, Any]]
HARD: dict[str, Any] = {
    "lora_dropout": 0.1, "batch_size": 2, "target_batch_size": 4, "num_epochs": 3, "logging_steps": 4, "save_steps": 3,
    "save_total_limit": None, "val_size": 0.25, "eval_strategy": "epoch", "lr_scheduler_type": "cosine", "warmup_ratio": 0.2,
}  # fmt: skip
"""12 rows, 3 steps an epoch, 9 in all; points lie between checkpoints."""


@pytest.fixture(scope="module")
def _undisturbed() -> dict[str, Any]:
    return {}


@pytest.fixture
def undisturbed(_undisturbed: dict[str, Any], config: Make, workspace: Path) -> dict[str, Any]:
    """Curve and adapter of a run that nobody disturbed."""
    if not _undisturbed:
        folder = run(workspace, config(**HARD))
        _undisturbed.update(curve=curve(folder), adapter=adapter_bytes(folder))
    return _undisturbed


def same(folder: RunStore, undisturbed: dict[str, Any], least_step: int = 1) -> None:
    assert folder.state().state == "finished"
    assert attempt_of(folder)["from_step"] >= least_step, "it went on, and did not begin again"
    assert curve(folder) == undisturbed["curve"]
    assert adapter_bytes(folder) == undisturbed["adapter"]


def at_call(monkeypatch: pytest.MonkeyPatch, name: str, number: int, action: Callable[[], Any]) -> None:
    """Do `action` before the call `number` (from 1) of the function `name` by the loop, else by its evaluation."""
    module = loop if hasattr(loop, name) else evaluation_pass
    real, count = getattr(module, name), iter(range(1, 10**9))

    def watched(*args: Any, **kwargs: Any) -> Any:
        if next(count) == number:
            action()
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, watched)


def test_the_points_of_an_undisturbed_run(undisturbed: dict[str, Any]) -> None:
    points = [(row["step"], "eval_loss" in row) for row in undisturbed["curve"]]
    assert points == [(1, False), (3, True), (4, False), (6, True), (8, False), (9, True)]


@pytest.mark.parametrize("step", [1, 4, 8])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    step: int, config: Make, workspace: Path, undisturbed: dict[str, Any]
) -> None:
    same(resumed(stopped_at(workspace, config(**HARD), step)), undisturbed)


@pytest.mark.parametrize("keys", [{}, {"torch_compile": True}], ids=["fused LoRA", "compiled"])
def test_own_ways_of_computing_go_on_to_the_bit(
    keys: dict[str, Any], config: Make, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    values = config(**{**HARD, "lora_dropout": 0.0, "eval_strategy": "no", **keys})
    whole = run(workspace, values)
    folder = stopped_at(workspace, values, 4)
    same(resumed(folder), {"curve": curve(whole), "adapter": adapter_bytes(whole)})
    assert caplog.text.count("14 LoRA layers compute as one function each") == 3
    assert caplog.text.count("6 of 6 parts compiled") == (3 if keys else 0)


def test_modules_that_train_whole_are_saved_in_fp32_and_go_on_to_the_bit(config: Make, workspace: Path) -> None:
    keys = {"precision": "bf16", "modules_to_save": ["embed_tokens", "lm_head", "norm"], "learning_rate": 1e-5}
    values = config(**{**HARD, **keys})
    whole = run(workspace, values)
    folder = stopped_at(workspace, values, 4)
    same(resumed(folder), {"curve": curve(whole), "adapter": adapter_bytes(whole)})
    assert {tensor.dtype for tensor in load_file(whole.adapter / "adapter_model.safetensors").values()} == {
        torch.float32
    }


@pytest.mark.parametrize("number", [2, 6, 12])
def test_a_stop_inside_a_step_gives_its_passes_up_and_nothing_is_lost(
    number: int, config: Make, workspace: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for in the pass before. Passes 2, 6 and 12 are the second of steps 1, 3 and 6; step 3 ends an epoch."""
    folder = made(workspace, config(**HARD))
    at_call(monkeypatch, "micro_batch_step", number - 1, lambda: request_stop(folder))
    train_in_folder(folder)
    assert (folder.state().state, folder.state().step) == ("stopped", number // 2 - 1)
    same(resumed(folder), undisturbed, least_step=number // 2 - 1)


def test_a_stop_in_the_first_pass_after_an_epochs_end_goes_on_as_well(
    config: Make, workspace: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(workspace, config(**HARD))
    at_call(monkeypatch, "labels_that_count", 4, lambda: request_stop(folder))  # of three steps, and this
    train_in_folder(folder)
    assert folder.state().step == 3
    same(resumed(folder), undisturbed)


@pytest.mark.parametrize(
    ("name", "number", "step"), [("evaluate", 1, 3), ("micro_batch_loss", 1, 3), ("evaluate", 3, 9)]
)
def test_a_stop_inside_an_evaluation_makes_it_up_on_resume(
    name: str,
    number: int,
    step: int,
    config: Make,
    workspace: Path,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before its first batch, between its two batches, and at the last step."""
    folder = made(workspace, config(**HARD))
    at_call(monkeypatch, name, number, lambda: request_stop(folder))
    train_in_folder(folder)
    assert (folder.state().state, folder.state().step) == ("stopped", step)
    assert [path.name for path in checkpoints_of(folder)][-1] == f"checkpoint-{step}"
    assert not any(row["step"] == step and "eval_loss" in row for row in points_of(folder))
    same(resumed(folder), undisturbed)


def test_evaluating_changes_nothing_that_is_learned(config: Make, workspace: Path, undisturbed: dict[str, Any]) -> None:
    folder = run(workspace, config(**HARD | {"eval_strategy": "no"}))
    assert adapter_bytes(folder) == undisturbed["adapter"]


def test_a_damaged_checkpoint_is_passed_over_and_said(
    config: Make, workspace: Path, undisturbed: dict[str, Any]
) -> None:
    folder = stopped_at(workspace, config(**HARD), 8)
    made_ready(folder)
    newest = checkpoints_of(folder)[-1]
    assert newest.name == "checkpoint-8"
    (newest / "state.safetensors").write_bytes(b"")
    assert [path.name for path in checkpoints_of(folder)] == ["checkpoint-3", "checkpoint-6", "checkpoint-8"]
    train_in_folder(folder)
    same(folder, undisturbed)
    attempt = attempt_of(folder)
    assert attempt["resume_from"] == "checkpoint-6"
    (said,) = attempt["passed_over"]
    assert said["checkpoint"] == "checkpoint-8"
    assert said["problems"][0].startswith("state.safetensors: 0 bytes")
    assert "checkpoint-8 is passed over: checkpoint-8 is damaged" in folder.train_log.read_text()
    assert all(verified(path) == [] for path in checkpoints_of(folder))


@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "adapter/adapter_model.safetensors"])
def test_a_checkpoint_that_would_go_on_differently_is_passed_over(
    name: str, config: Make, workspace: Path, undisturbed: dict[str, Any]
) -> None:
    """Its manifest agrees, but a part of what training goes on from is not there."""
    folder = stopped_at(workspace, config(**HARD), 4)
    newest = checkpoints_of(folder)[-1]
    (newest / name).unlink()
    (newest / "manifest.json").unlink()
    write_manifest(newest, 4)
    assert verified(newest) == []
    same(resumed(folder), undisturbed)
    assert attempt_of(folder)["resume_from"] == "checkpoint-3"


def test_points_beyond_the_checkpoint_are_kept_beside_the_attempt(
    config: Make, workspace: Path, undisturbed: dict[str, Any]
) -> None:
    folder = run(workspace, config(**HARD))
    shutil.rmtree(folder.adapter)
    for path in checkpoints_of(folder)[1:]:
        shutil.rmtree(path)
    with folder.metrics_jsonl.open("ab") as file:
        file.write(b'{"step": 10, "lo')
    same(resumed(folder), undisturbed)
    kept = (folder.attempts / "2.metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in kept[:-1]] == [4, 6, 8, 9]
    assert kept[-1] == '{"step": 10, "lo'


def test_a_trainer_that_is_started_again_by_hand_goes_on_from_the_newest_checkpoint(
    config: Make, workspace: Path, undisturbed: dict[str, Any]
) -> None:
    folder = stopped_at(workspace, config(**HARD), 4)
    folder.exit_json.unlink()
    folder.stop_request.unlink()
    train_in_folder(folder)
    same(folder, undisturbed)
    assert attempt_of(folder)["resume_from"] == "checkpoint-4"
    assert attempt_of(folder)["number"] == 2


def test_a_run_whose_last_checkpoint_is_there_trains_no_step_more(config: Make, workspace: Path) -> None:
    """Killed between the last checkpoint and the adapter; the last step lies inside an epoch."""
    values = config(**HARD | {"max_steps": 5, "eval_strategy": "no"})
    whole = run(workspace, values)
    folder = made(workspace, values)
    shutil.copytree(whole.checkpoints, folder.checkpoints)
    shutil.copy(whole.metrics_jsonl, folder.metrics_jsonl)
    resumed(folder)
    assert folder.state().step == 5
    assert curve(folder) == curve(whole)
    assert adapter_bytes(folder) == adapter_bytes(whole)


def test_a_run_that_was_killed_behind_its_adapter_ends_with_the_same_one(config: Make, workspace: Path) -> None:
    """In its last stages the adapter is there already."""
    folder = run(workspace, config(**HARD))
    whole, points = adapter_bytes(folder), curve(folder)
    folder.exit_json.unlink()
    resumed(folder)
    assert folder.state().state == "finished"
    assert (adapter_bytes(folder), curve(folder)) == (whole, points)


def test_threads_are_set_as_before(config: Make, workspace: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        folder = stopped_at(workspace, config(**HARD), 4)
        torch.set_num_threads(2)
        resumed(folder)
        assert torch.get_num_threads() == 1
        assert attempt_of(folder)["num_threads"] == 1
    finally:
        torch.set_num_threads(before)


def rewritten(folder: RunStore, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Another adapter in the newest checkpoint, with a manifest that agrees."""
    newest = checkpoints_of(folder)[-1]
    file = newest / "adapter" / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    (newest / "manifest.json").unlink()
    write_manifest(newest, int(newest.name.split("-")[1]))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {name.replace("q_proj", "other_proj"): value for name, value in tensors.items()},
        lambda tensors: dict(list(tensors.items())[1:]),
    ],
    ids=["other names", "one is missing"],
)
def test_an_adapter_that_would_not_be_loaded_is_refused(change: Any, config: Make, workspace: Path) -> None:
    folder = stopped_at(workspace, config(**HARD), 4)
    rewritten(folder, change)
    with pytest.raises(RunError, match="checkpoint-4 does not fit the adapter"):
        resumed(folder)
    assert folder.state().state == "failed"


def test_ranks_are_checked_again_after_the_adapter_is_loaded(config: Make, workspace: Path) -> None:
    folder = stopped_at(workspace, config(**HARD, check_r_consistency=True), 4)
    resumed(folder)
    second = folder.train_log.read_text().split("resuming from")[1]
    before_step = second.split("stage saving")[0]
    assert before_step.count("rank check: 14 of 14") == 2
    assert before_step.index("tensors of the adapter are loaded") < before_step.rindex("rank check: 14 of 14")


# ------------------------------------------------------------------------------------------ changed settings


def test_safe_changes_change_no_curve(config: Make, workspace: Path, undisturbed: dict[str, Any]) -> None:
    folder = stopped_at(workspace, config(**HARD), 4)
    resumed(folder, {"save_steps": 2, "save_total_limit": 2})
    same(folder, undisturbed)
    assert [path.name for path in checkpoints_of(folder)][-2:] == ["checkpoint-8", "checkpoint-9"], "every two steps"


def test_another_learning_rate_enters_its_schedule_at_the_step_reached(config: Make, workspace: Path) -> None:
    values = config(**HARD | {"logging_steps": 1, "eval_strategy": "no", "val_size": 0.0, "num_epochs": 2})
    wanted = run(workspace, values | {"learning_rate": 1e-3})
    folder = stopped_at(workspace, values, 3)
    resumed(folder, {"learning_rate": 1e-3})
    before, after = points_of(folder)[:3], points_of(folder)[3:]
    assert [row["learning_rate"] for row in after] == pytest.approx(
        [row["learning_rate"] for row in points_of(wanted)[3:]]
    )
    assert [row["learning_rate"] for row in before] == pytest.approx(
        [row["learning_rate"] * 20 for row in points_of(wanted)[:3]]
    )


def test_more_epochs_train_on_and_the_adapter_of_fewer_is_kept(config: Make, workspace: Path) -> None:
    folder = run(workspace, config(num_epochs=1))
    before = adapter_bytes(folder)
    resumed(folder, {"num_epochs": 2})
    assert folder.state().step == 8
    assert adapter_bytes(folder) != before
    assert (
        folder.attempts / f"{attempt_of(folder)['number']}.adapter/adapter_model.safetensors"
    ).read_bytes() == before
    assert [row["step"] for row in points_of(folder)] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_run_takes_its_own_published_place_again_and_nobody_elses(config: Make, workspace: Path) -> None:
    folder = run(workspace, config(num_epochs=1, pkg="shop", version="1"))
    published = workspace / "adapters/shop/1/adapter_model.safetensors"
    before = adapter_bytes(folder)
    assert published.read_bytes() == before
    prepare_resume(folder, this_installation(), bound_before(folder), {"num_epochs": 2})
    resumed(folder, {"num_epochs": 2})
    assert published.read_bytes() == adapter_bytes(folder) != before
    published.write_bytes(before + b"of another")
    with pytest.raises(ConfigError, match="already"):
        prepare_resume(folder, this_installation(), bound_before(folder), {"num_epochs": 3})
    with pytest.raises(ConfigError, match="already"):
        resumed(folder, {"num_epochs": 3})


def test_a_change_stays_for_the_starts_that_follow(config: Make, workspace: Path) -> None:
    folder = stopped_at(workspace, config(num_epochs=2), 2)
    made_ready(folder, {"learning_rate": 1e-3})
    with at_line("step 4 of", lambda: request_stop(folder)):
        train_in_folder(folder)
    resumed(folder)
    assert points_of(folder)[-1]["learning_rate"] < 1e-3


def test_a_change_that_cannot_be_is_refused_and_nothing_is_touched(config: Make, workspace: Path) -> None:
    folder = stopped_at(workspace, config(**HARD), 4)
    before = [path.name for path in checkpoints_of(folder)], points_of(folder)
    with pytest.raises(RunError, match="`r`"):
        resumed(folder, {"r": 8})
    assert ([path.name for path in checkpoints_of(folder)], points_of(folder)) == before
