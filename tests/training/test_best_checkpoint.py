"""Which checkpoint is kept as the best, and which adapter a run ends with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.runs.checkpoints.manifest import checkpoints_of
from tests.run_files import points_of
from tests.training.helpers import adapter_bytes, run

Make = Callable[..., dict[str, Any]]
WORSE = {"learning_rate": 1.0, "max_grad_norm": 0, "lr_scheduler_type": "constant", "max_steps": 6, "seed": 1}
"""The evaluation loss rises from the first step on."""


def names(folder: Any) -> list[str]:
    return [path.name for path in checkpoints_of(folder)]


def test_the_best_evaluated_checkpoint_is_kept_and_the_last_adapter_is_the_runs(config: Make, workspace: Path) -> None:
    values = config(**WORSE, val_size=0.25, eval_strategy="steps", eval_steps=1, save_steps=1, save_total_limit=2)
    folder = run(workspace, values)
    losses = {row["step"]: row["eval_loss"] for row in points_of(folder) if "eval_loss" in row}
    best = min(losses, key=losses.__getitem__)
    assert best < 5, "else this shows nothing"
    assert names(folder) == [f"checkpoint-{best}", "checkpoint-5", "checkpoint-6"]
    last = folder.checkpoints / "checkpoint-6/adapter/adapter_model.safetensors"
    assert adapter_bytes(folder) == last.read_bytes()
    assert f"the evaluation loss was best at step {best} " in folder.train_log.read_text()
    assert "the adapter is that of step 6, the last" in folder.train_log.read_text()


def test_what_is_evaluated_between_two_checkpoints_is_kept_by_neither(config: Make, workspace: Path) -> None:
    values = config(**WORSE, val_size=0.25, eval_strategy="steps", eval_steps=2, save_steps=3, save_total_limit=1)
    folder = run(workspace, values)
    assert names(folder) == ["checkpoint-3", "checkpoint-6"]


@pytest.mark.parametrize(
    ("keys", "codes"),
    [
        ({"eval_steps": 2, "save_steps": 3}, ["evaluation_off_checkpoints"]),
        ({"eval_steps": 3, "save_steps": 2}, ["evaluation_off_checkpoints"]),
        ({"eval_steps": 2, "save_steps": 3, "save_total_limit": None}, []),
        ({"eval_steps": 2, "save_steps": 4}, []),
        ({"eval_steps": 4, "save_steps": 2}, []),
        ({"save_steps": 20}, ["eval_steps_not_written"]),
        ({"save_steps": 15}, ["eval_steps_not_written", "evaluation_off_checkpoints"]),
        ({"eval_strategy": "epoch", "save_steps": 5}, ["evaluation_off_checkpoints"]),
        ({"eval_strategy": "epoch", "save_steps": 6}, []),
        ({"eval_strategy": "epoch", "save_steps": 4, "num_epochs": 1}, []),
        ({"eval_strategy": "epoch", "save_steps": 500}, []),
    ],
    ids=str,
)
def test_the_check_says_where_evaluations_miss_the_checkpoints(keys: dict[str, Any], codes: list[str]) -> None:
    from lora_backend.config.check import check_config
    from lora_backend.config.rules import Facts

    values = {
        "model_name": "m",
        "batch_size": 2,
        "num_epochs": 9,
        "val_size": 0.25,
        "seed": 1,
        "eval_strategy": "steps",
    } | keys
    found = check_config(values, Facts(num_rows=16))
    assert [finding.code for finding in found.findings if finding.key in ("eval_steps", "eval_strategy")] == codes
