"""What a trainer takes from its plan, and in which numbers it writes its devices down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.schema import TrainingConfig
from lora_backend.installation import this_installation
from lora_backend.modeling.devices import resolve_precision
from lora_backend.peers.peers import Alone
from lora_backend.preflight.plan_vs_measured import by_device
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training.reporter import RunReporter
from lora_backend.training.start_facts import device_map_of, planned_precision
from tests.run_files import add_start, make_run

PLAN = {
    "devices": [{"index": 3, "uuid": "GPU-d", "total_bytes": 1}, {"index": 0, "uuid": "GPU-a", "total_bytes": 1}],
    "strategy": "layer_split",
    "precision": "fp16",
}


def run_of(tmp_path: Path, **attempt: Any) -> RunStore:
    run = make_run(tmp_path, config={"model_name": "m"}, config_text="", argv=None)
    add_start(run, **attempt)
    return run


def test_what_is_measured_is_written_down_in_the_numbers_of_the_plan(tmp_path: Path) -> None:
    run = run_of(tmp_path, plan=PLAN, environment={"CUDA_VISIBLE_DEVICES": "GPU-d,GPU-a"})
    parts = dict.fromkeys(("weights", "adapter", "gradients", "optimizer", "moving", "tensors", "process"), 0)
    found = [{"device": number, **parts, "tensors": 10 + number} for number in range(2)]
    reporter = RunReporter(run)
    reporter.begins(0, 2)
    reporter.memory.result = {"rows": 1, "tokens": 8, "padded": False, "devices": found}
    reporter.step_done(2, 1.0)
    measured = by_device(run.read_attempt().measured.devices)  # type: ignore[union-attr]
    assert {device: figures.tensors for device, figures in measured.items()} == {(3, None): 10, (0, None): 11}


@pytest.mark.parametrize(
    ("asked", "plan", "expected"),
    [
        ("auto", PLAN, "fp16"),
        ("bf16", PLAN, "bf16"),
        ("auto", {**PLAN, "strategy": "cpu"}, None),
        ("auto", {**PLAN, "precision": "int3"}, None),
        ("auto", None, None),
    ],
)
def test_auto_is_what_was_planned_for_all_gpus(
    asked: str, plan: dict[str, Any] | None, expected: str | None, tmp_path: Path
) -> None:
    config = TrainingConfig.model_validate({"model_name": "m", "precision": asked})
    assert planned_precision(config, run_of(tmp_path, plan=plan)) == (expected or resolve_precision("auto"))


@pytest.mark.parametrize(("places", "strategy", "shown", "expected"), [
    ([3, 0], "layer_split", "GPU-d,GPU-a", {"model": 0, "lm_head": 1}),
    ([0, 0], "single", "GPU-a", None),
    ([3, 3], "single", "GPU-d", None),
    ([3, 3], "single", "GPU-a,GPU-d", {"model": 1, "lm_head": 1}),
    (["cpu", "cpu"], "cpu", "", None),
])  # fmt: skip
def test_a_model_is_loaded_where_a_start_that_chose_by_itself_has_planned_it(
    places: list[Any], strategy: str, shown: str, expected: dict[str, int] | None, tmp_path: Path, workspace: Path
) -> None:
    """On the first GPU that the trainer sees without any map."""
    plan = {**PLAN, "strategy": strategy, "device_map": dict(zip(("model", "lm_head"), places, strict=True))}
    run = run_of(tmp_path, plan=plan, strategy=strategy, environment={"CUDA_VISIBLE_DEVICES": shown})
    config = TrainingConfig.model_validate({"model_name": "m"})
    assert device_map_of(config, this_installation(), run, Alone()) == expected
