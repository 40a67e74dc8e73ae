"""What one of several processes is expected to hold in the pass that it measured."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.installation import this_installation
from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.cost.shards import ShardedMemory
from lora_backend.planning.cost.trace_settings import Batch
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import GIB, Target, of_words
from lora_backend.preflight.plan_vs_measured import COMPONENTS, by_device, compare, expected_by_device
from lora_backend.runs.record.attempts import Attempt, Expected, HeldTensors, Measured, PeerRows
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


PARTS = {"weights": 1, "gradients": 0, "optimizer": 0, "moving": 0}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_each_process_is_held_against_the_rows_that_it_had_itself(strategy: str) -> None:
    config = with_changes(CONFIG, strategy=strategy, num_processes=2, target_batch_size=3, precision="bf16")
    plan = Planner(source(FACTS), (HOST,)).plan(config)
    attempt = attempt_of(plan, config)
    peers = [PeerRows(rank=0, rows=1, tokens=256, padded=False), PeerRows(rank=1, rows=1, tokens=512, padded=False)]
    # The second has no micro-batch before the measured one.
    held = [
        HeldTensors(device="cpu", rank=rank, adapter=1, process=7, **PARTS | {"gradients": 1 - rank}) for rank in (0, 1)
    ]
    attempt.measured = Measured(rows=1, tokens=256, padded=False, peers=peers, devices=held)
    asked: list[int] = []

    def profile_of(step: Any, batch: Batch) -> Any:
        asked.append(batch.tokens)
        return source(FACTS)(step)

    found = [expected_by_device(attempt, config, profile_of, rank) or [] for rank in (0, 1)]
    assert asked == [256, 512]
    (first,), (second,) = found
    assert [(one.device, one.rank) for one in (first, second)] == [("cpu", 0), ("cpu", 1)]
    assert first.gradients == first.adapter
    assert second.gradients == 0
    assert (second.moving or 0) > (first.moving or 0) + (first.gradients or 0), "twice as many tokens"
    attempt.expected = Expected(devices=[first, second])
    compared = compare(attempt, config.model_dump(), this_installation())
    assert [(one.device, one.rank, one.process_bytes) for one in compared] == [("cpu", 0, 7), ("cpu", 1, 7)]
    assert [one.expected_bytes for one in compared] == [
        sum(int(getattr(one, name)) for name in COMPONENTS) for one in (first, second)
    ]
    (whole,) = plan.document().devices
    assert sum(one.planned_at_most for one in compared) == pytest.approx(whole.total_bytes, abs=2)


def test_where_nothing_says_which_process_held_it_the_first_stands_for_all() -> None:
    found = by_device([HeldTensors(device="cpu", adapter=rank, **PARTS) for rank in (10, 20)])
    assert [held.adapter for held in found.values()] == [10]
