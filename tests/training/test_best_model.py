"""A run that ends with its best checkpoint, or stops because none comes any more: whole, or killed and resumed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from lora_backend.config.schema import TrainingConfig
from lora_backend.data.row_file import preview_rows
from lora_backend.errors import RunError
from lora_backend.launching.resume import refuse_nothing_to_do
from lora_backend.modeling.load import load_model, load_tokenizer
from lora_backend.runs.checkpoints.manifest import checkpoints_of
from lora_backend.runs.record.run_store import RunStore
from lora_backend.tokens.label_rows import label_rows
from lora_backend.tokens.labels import LabelRules
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.training_state.best_model import best_evaluation, scores, stops_early
from lora_backend.training_state.state import Progress
from lora_backend.views.run_view import progress_parts
from tests.run_files import points_of
from tests.training.helpers import (
    adapter_bytes,
    at_line,
    call,
    curve,
    made,
    made_ready,
    resumed,
    run,
    stopped_at,
    until,
)

Make = Callable[..., dict[str, Any]]
EARLY: dict[str, Any] = {
    "learning_rate": 0.05, "max_grad_norm": 0, "lr_scheduler_type": "constant", "num_epochs": 6, "seed": 1, "batch_size": 4,
    "lora_dropout": 0.1, "val_size": 0.25, "eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "save_total_limit": 2,
    "load_best_model_at_end": True, "early_stopping_patience": 3, "logging_steps": 2,
}  # fmt: skip
"""The evaluation loss falls, then rises."""


def names(folder: RunStore) -> list[str]:
    return [path.name for path in checkpoints_of(folder)]


def best_step_of(folder: RunStore) -> int:
    losses: dict[int, float] = {row["step"]: row["eval_loss"] for row in points_of(folder) if "eval_loss" in row}
    return min(losses, key=losses.__getitem__)


@pytest.fixture(scope="module")
def _undisturbed() -> dict[str, Any]:
    return {}


@pytest.fixture
def whole(_undisturbed: dict[str, Any], config: Make, workspace: Path) -> RunStore:
    """A run that nobody disturbed."""
    if not _undisturbed:
        _undisturbed["run"] = run(workspace, config(**EARLY))
    found: RunStore = _undisturbed["run"]
    return found


def test_it_ends_with_the_best_checkpoint_and_says_why_it_stopped(whole: RunStore) -> None:
    state, best = whole.state(), best_step_of(whole)
    assert 1 < best < state.step < (state.total_steps or 0), "else this shows nothing"
    assert state.step == best + 3
    assert (state.state, state.cause, state.best_step) == ("finished", "early_stopping", best)
    assert state.message is not None
    assert state.message.text("en") == (
        f"Stopped early at step {state.step}: the evaluation loss has not improved for 3 evaluations."
    )
    assert state.message.text("zh") != state.message.text("en")
    assert names(whole) == [f"checkpoint-{step}" for step in (best, state.step - 1, state.step)], "the best is kept"
    taken = whole.checkpoints / f"checkpoint-{best}/adapter/adapter_model.safetensors"
    assert adapter_bytes(whole) == taken.read_bytes()
    assert whole.read_attempt().adapter_step == best
    assert f"best evaluation at step {best}" in [part.text("en") for part in progress_parts(state, {})]
    assert all(0 <= row["eval_token_accuracy"] <= 1 for row in points_of(whole) if "eval_loss" in row)


@pytest.mark.parametrize("before_the_end", [1, 3])
def test_a_stop_changes_neither_the_step_nor_the_adapter(
    before_the_end: int, whole: RunStore, config: Make, workspace: Path
) -> None:
    same(resumed(stopped_at(workspace, config(**EARLY), whole.state().step - before_the_end)), whole)


def test_a_killed_run_stops_at_the_same_step_with_the_same_adapter(
    whole: RunStore, config: Make, workspace: Path
) -> None:
    folder = made(workspace, config(**EARLY), "killed")
    process = call("train", str(folder.config_yaml), "--run-dir", str(folder.path))
    until(lambda: len(names(folder)) > 1 or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    same(resumed(folder), whole)


def same(folder: RunStore, whole: RunStore) -> None:
    assert (folder.state().state, folder.state().step) == ("finished", whole.state().step)
    assert folder.state().message == whole.state().message
    assert folder.read_attempt().adapter_step == whole.read_attempt().adapter_step
    assert names(folder) == names(whole)
    assert curve(folder) == curve(whole)
    assert adapter_bytes(folder) == adapter_bytes(whole)


def test_a_stop_at_the_evaluation_that_ends_it_is_told_as_the_same_end(
    whole: RunStore, config: Make, workspace: Path
) -> None:
    """The evaluation is made good by the start that comes after."""
    folder = stopped_at(workspace, config(**EARLY | {"logging_steps": 1}), whole.state().step)
    assert curve(folder)[-1].keys() & {"eval_loss"} == set()
    folder = resumed(folder)
    assert folder.state().message == whole.state().message
    assert adapter_bytes(folder) == adapter_bytes(whole)


def test_it_goes_on_once_its_patience_is_raised_and_not_before(config: Make, workspace: Path) -> None:
    folder = run(workspace, config(**EARLY))
    step = folder.state().step
    for changes in ({}, {"num_epochs": 99}):
        with pytest.raises(RunError, match="stopped early"):
            refuse_nothing_to_do(folder, folder.state(), changes)
    refuse_nothing_to_do(folder, folder.state(), {"early_stopping_patience": None})
    made_ready(folder, {"early_stopping_patience": None})
    folder = resumed(folder, {"early_stopping_patience": None})
    assert folder.state().step == folder.state().total_steps
    assert (folder.state().cause, folder.state().message) == (None, None)
    assert step < folder.state().step


def test_without_it_the_adapter_of_the_last_step_is_the_runs(config: Make, workspace: Path, whole: RunStore) -> None:
    folder = run(workspace, config(**EARLY | {"load_best_model_at_end": False}))
    last = folder.checkpoints / f"checkpoint-{folder.state().step}/adapter/adapter_model.safetensors"
    assert folder.state().step == whole.state().step
    assert adapter_bytes(folder) == last.read_bytes() != adapter_bytes(whole)


def test_the_accuracy_of_tokens_can_be_what_is_compared(config: Make, workspace: Path) -> None:
    keys = {"metric_for_best_model": "token_accuracy", "early_stopping_patience": 2}
    folder = run(workspace, config(**EARLY | keys))
    accuracies = {row["step"]: row["eval_token_accuracy"] for row in points_of(folder) if "eval_loss" in row}
    best = max(accuracies, key=accuracies.__getitem__)
    assert (folder.read_attempt().adapter_step, folder.state().best_step) == (best, best)
    message = folder.state().message
    assert message is not None
    assert "the evaluation token accuracy has not improved for 2 evaluations" in message.text("en")


def test_the_best_by_epochs_is_saved_whatever_save_steps_says(config: Make, workspace: Path) -> None:
    """With the highest loss taken for the best, for it falls here."""
    keys = {"eval_strategy": "epoch", "eval_steps": ..., "save_steps": 500, "num_epochs": 3, "greater_is_better": True}
    folder = run(workspace, config(**EARLY | keys | {"learning_rate": 1.0}))
    losses = {row["step"]: row["eval_loss"] for row in points_of(folder) if "eval_loss" in row}
    best = max(losses, key=losses.__getitem__)
    assert list(losses) == [3, 6, 9]
    assert f"checkpoint-{best}" in names(folder)
    assert folder.read_attempt().adapter_step == best < folder.state().step


def test_a_checkpoint_that_somebody_asked_for_is_not_what_a_run_ends_with() -> None:
    progress = Progress(step=6, evaluations={2: 3.0, 4: 1.0, 6: 2.0}, checkpoints=[2, 6])
    values: dict[str, Any] = {"model_name": "m", "save_steps": 2}
    assert scores(progress, TrainingConfig(**values)) == {2: 3.0, 4: 1.0, 6: 2.0}
    assert scores(progress, TrainingConfig(**values, load_best_model_at_end=True)) == {2: 3.0, 6: 2.0}


@pytest.mark.parametrize(
    ("losses", "keys", "best", "count"),
    [
        ([], {}, None, 0),
        ([None], {}, None, 0),
        ([None, None, 3.0], {}, 3, 0),
        ([3.0, None, 3.0, 2.9], {}, 4, 0),
        ([3.0, 3.0, 3.1], {}, 1, 2),
        ([3.0, 2.95, 2.91], {"early_stopping_threshold": 0.1}, 3, 2),
        ([3.0, 2.8, 2.75], {"early_stopping_threshold": 0.1}, 3, 1),
        ([3.0, 3.5, 2.0], {"greater_is_better": True}, 2, 1),
    ],
    ids=str,
)
def test_the_best_and_the_patience_follow_from_the_evaluations(
    losses: list[float | None], keys: dict[str, Any], best: int | None, count: int
) -> None:
    """As transformers' callback counts: the first is an improvement, what is no number never is."""
    progress = Progress(evaluations=dict(enumerate(losses, start=1)))
    found = best_evaluation(progress, TrainingConfig(model_name="m", **keys))
    assert (found.step, found.without_improvement) == (best, count)
    assert stops_early(progress, TrainingConfig(model_name="m", early_stopping_patience=count or 1, **keys)) is bool(
        count
    )


def test_a_damaged_best_checkpoint_is_named_and_the_last_is_whole(config: Make, workspace: Path) -> None:
    folder = made(workspace, config(**EARLY | {"early_stopping_patience": None, "num_epochs": 2}))
    step = 0

    def damage() -> None:
        nonlocal step
        step = best_step_of(folder)
        path = folder.checkpoints / f"checkpoint-{step}/adapter/adapter_model.safetensors"
        save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)

    last = 2 * 3
    with at_line(f"checkpoint-{last} saved", damage), pytest.raises(RunError, match="is the best, but damaged"):
        train_in_folder(folder)
    folder = resumed(folder, {"load_best_model_at_end": False})
    assert (folder.state().state, folder.state().step) == ("finished", last)


@pytest.mark.parametrize(
    "keys",
    [
        {"loss_type": "nll"},
        {"loss_type": "chunked_nll"},
        {"batching": "padded", "loss_type": "nll"},
        {"label_smoothing_factor": 0.1, "loss_type": "nll"},
    ],
    ids=str,
)
def test_the_accuracy_is_that_of_the_models_own_logits(
    keys: dict[str, Any], config: Make, workspace: Path, tmp_path: Path
) -> None:
    """However batches are made and the loss is computed: counted here from the logits of one row after another."""
    values = config(
        **EARLY | {"early_stopping_patience": None, "load_best_model_at_end": False, "num_epochs": 1} | keys
    )
    own = [dict(row.checked()) for row in preview_rows(Path(values["dataset"]), 5)]
    rows_file = tmp_path / "held.jsonl"
    rows_file.write_text("".join(json.dumps(row) + "\n" for row in own))
    folder = run(workspace, values | {"val_size": 0.0, "eval_dataset": str(rows_file)})
    typed = TrainingConfig(**values)
    model = PeftModel.from_pretrained(load_model(typed), str(folder.adapter)).eval()
    right = tokens = 0
    for row in label_rows(own, load_tokenizer(values["model_name"]), LabelRules(typed.max_length)):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        with torch.no_grad():
            chosen = model(input_ids=ids).logits[0, :-1].argmax(-1)
        right, tokens = right + int((chosen == labels).sum()), tokens + int((labels != -100).sum())
    last = [row for row in points_of(folder) if "eval_loss" in row][-1]
    assert last["eval_token_accuracy"] == pytest.approx(right / tokens, abs=1e-9)
    assert 0 < right < tokens
