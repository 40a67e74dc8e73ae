"""What one of several processes is expected to hold in the pass that it measured."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.cost.shards import ShardedMemory
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import GIB, Target, of_words
from lora_backend.preflight.plan_vs_measured import by_device, expected_by_device
from lora_backend.runs.record.attempts import Attempt, HeldTensors, Measured
from tests.planning.formula_plans import CONFIG, FACTS, source

HOST = Target("cpu", "CPU", 64 * GIB)


def attempt_of(plan: Any, config: Any) -> Attempt:
    document = plan.document()
    document.assignment, document.precision = [], config.precision
    held = [HeldTensors(device=device.index, gradients=1) for device in document.devices]
    return Attempt(plan=document, measured=Measured(rows=1, tokens=512, padded=False, devices=held))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("targets", [(HOST,), of_words("2xRTX-4090")])
def test_each_device_is_expected_to_hold_what_one_process_does(strategy: str, targets: tuple[Target, ...]) -> None:
    config = with_changes(CONFIG, strategy=strategy, num_processes=2, target_batch_size=4, precision="bf16")
    plan = Planner(source(FACTS), targets).plan(config)
    found = expected_by_device(attempt_of(plan, config), config, lambda step, _: source(FACTS)(step))
    assert found is not None
    assert [held.device for held in found] == [target.device for target in targets]
    memory = (ShardedMemory if strategy == "fsdp" else Memory)(plan.profile, plan.workload)
    for held in found:
        parameters = plan.profile.parameters * 2
        assert held.weights == pytest.approx(parameters / 2 if strategy == "fsdp" else parameters, rel=0.01)
        assert held.gradients == held.adapter
        whole = memory.device(range(memory.num_units))
        assert 0 < (held.moving or 0) < whole.tensors, "half as many tokens as were planned for"


def test_of_processes_that_share_a_device_the_first_is_compared() -> None:
    parts = {"weights": 1, "gradients": 0, "optimizer": 0, "moving": 0}
    found = by_device([HeldTensors(device="cpu", adapter=rank, **parts) for rank in (10, 20)])
    assert found["cpu"].adapter == 10
