"""Plans of several processes: what each holds, how many there are, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_backend.errors import PlanError, TooLittleMemoryError, UntrainableError
from lora_backend.planning.cost.memory import COMMUNICATOR_BYTES, SUM_BUCKET_BYTES, Memory
from lora_backend.planning.cost.profile import TrainedTensors
from lora_backend.planning.cost.shards import ShardedMemory
from lora_backend.planning.limits import largest_batch
from lora_backend.planning.planner import Planner, with_changes, workload_of
from lora_backend.planning.targets import GIB, Target, of_words
from lora_backend.planning.ways import plan_ddp, plan_fsdp
from tests.planning.formula_plans import CONFIG, FACTS, source

WIDE = {**FACTS, "num_hidden_layers": 12, "hidden_size": 2048, "intermediate_size": 8192}
SHARED = with_changes(CONFIG, target_batch_size=8 * CONFIG.batch_size)
HOST = Target("cpu", "CPU", 64 * GIB)


def planner(words: str) -> Planner:
    return Planner(source(WIDE), of_words(words))


def ddp(words: str, **changes: Any) -> Any:
    here = planner(words)
    return plan_ddp(here, with_changes(SHARED, **changes), here.targets)


def fsdp(words: str, **changes: Any) -> Any:
    here = planner(words)
    return plan_fsdp(here, with_changes(SHARED, **changes), here.targets)


def test_with_ddp_every_device_holds_what_one_would_alone() -> None:
    plan, alone = ddp("4xRTX-4090"), planner("RTX-4090").plan(SHARED)
    assert (plan.strategy, plan.num_processes, plan.device_map, plan.assignment) == ("ddp", 4, {}, ())
    assert [device.target.device for device in plan.pipeline] == [0, 1, 2, 3]
    for device in plan.devices:
        assert device.breakdown.tensors == alone.devices[0].breakdown.tensors
        assert device.breakdown.overhead == alone.devices[0].breakdown.overhead + COMMUNICATOR_BYTES
        assert device.breakdown.total == sum(vars(device.breakdown).values())
        assert device.blocks == tuple(range(12))


def test_gradients_are_there_from_the_start_only_where_a_process_has_several_passes() -> None:
    assert not ddp("8xRTX-4090").workload.accumulates
    assert ddp("4xRTX-4090").workload.accumulates
    assert not ddp("4xRTX-4090", num_nodes=2).workload.accumulates


def test_the_sum_of_gradients_takes_a_buffer_of_bounded_size() -> None:
    """It is what decides where the gradients are far more than what a pass makes."""
    config = with_changes(SHARED, max_length=8, r=512, loss_type="nll", num_processes=2)
    here = planner("2xH100-80G")
    memory = Memory(here.profile(config), replace(workload_of(config, here.targets), num_processes=2, on_gpu=False))
    alone = Memory(here.profile(config), replace(memory.workload, num_processes=1))
    units = range(memory.num_units)
    held, single = memory.device(units), alone.device(units)
    assert held.gradients > 4 * SUM_BUCKET_BYTES
    assert 0 < held.tensors - single.tensors <= SUM_BUCKET_BYTES
    assert held.activations == SUM_BUCKET_BYTES
    assert held.logits == 0


def test_fsdp_shares_the_weights_out_and_gathers_the_root_and_two_blocks() -> None:
    whole = ddp("4xRTX-4090").devices[0].breakdown.weights
    for count in (2, 4, 8):
        plan = fsdp(f"{count}xRTX-4090")
        device = plan.devices[0]
        memory = ShardedMemory(plan.profile, plan.workload)
        assert plan.strategy == "fsdp"
        assert device.gathered_bytes <= memory.root_bytes + 2 * max(memory.block_bytes)
        assert device.gathered_bytes >= memory.root_bytes
        assert device.breakdown.weights - device.gathered_bytes == pytest.approx(whole / count, rel=0.01)
        assert device.breakdown.total == sum(vars(device.breakdown).values())


def test_offloaded_weights_lie_in_host_memory() -> None:
    here = replace(planner("2xRTX-4090"), host=HOST)
    config = with_changes(SHARED, fsdp_offload_params=True)
    plan, kept = plan_fsdp(here, config, here.targets), plan_fsdp(here, SHARED, here.targets)
    host = plan.devices[-1]
    assert host.target.is_cpu
    assert host.breakdown.weights == pytest.approx(ddp("2xRTX-4090").devices[0].breakdown.weights, rel=0.01)
    assert plan.devices[0].breakdown.weights < kept.devices[0].breakdown.weights
    small = replace(here, host=replace(HOST, total_bytes=GIB // 4))
    assert plan_fsdp(small, config, here.targets).verdict == "over"


def test_processes_on_a_cpu_share_its_memory() -> None:
    here = Planner(source(WIDE), (HOST,))
    alone = here.plan(with_changes(SHARED, precision="fp32"))
    plan = plan_ddp(here, with_changes(SHARED, precision="fp32", num_processes=3), (HOST,))
    assert plan.num_processes == 3
    assert plan.devices[0].breakdown.weights == 3 * alone.devices[0].breakdown.weights
    with pytest.raises(PlanError, match="needs `num_processes`"):
        plan_ddp(here, SHARED, (HOST,))


@pytest.mark.parametrize(("words", "changes", "count"), [
    ("4xRTX-4090", {}, 4),
    ("4xRTX-4090", {"num_processes": 2}, 2),
    ("8xRTX-4090", {"target_batch_size": 3 * CONFIG.batch_size}, 3),
    ("8xRTX-4090", {"num_nodes": 4}, 2),
    ("RTX-4090", {"num_nodes": 2}, 1),
])  # fmt: skip
def test_there_are_as_many_processes_as_a_step_has_micro_batches_for(
    words: str, changes: dict[str, Any], count: int
) -> None:
    assert ddp(words, **changes).num_processes == count


def test_fewer_processes_than_gpus_take_those_that_fit_and_are_fast() -> None:
    plan = ddp("RTX-3060,H100-80G,RTX-4090", num_processes=2)
    assert [device.target.device for device in plan.used] == [1, 2]
    assert plan.devices[0].breakdown.total == 0


@pytest.mark.parametrize(("words", "changes", "error", "said"), [
    ("2xRTX-4090", {"num_processes": 4}, PlanError, "there are 2. Set `num_processes: 2` or less"),
    ("2xRTX-4090", {"target_batch_size": None}, PlanError, "one micro-batch"),
    ("RTX-4090", {}, PlanError, "at least two processes"),
    ("2xRTX-4090", {"device_map": "auto"}, PlanError, "every process has its own"),
    ("2x1", {}, TooLittleMemoryError, "min_memory_gb"),
])  # fmt: skip
def test_what_cannot_be_shared_is_refused_with_the_remedy(
    words: str, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        ddp(words, **changes)


def test_an_embedding_with_a_lora_on_it_stays_whole() -> None:
    plan = fsdp("4xRTX-4090")
    profile = plan.profile
    on_it = replace(profile, embed=replace(profile.embed, trained=(TrainedTensors(0, 100),)))
    shared, whole = ShardedMemory(profile, plan.workload), ShardedMemory(on_it, plan.workload)
    assert whole.whole_bytes - shared.whole_bytes == profile.embed.parameters * 2
    assert shared.root_bytes - whole.root_bytes == profile.embed.parameters * 2


@pytest.mark.parametrize("changes", [{"quantization": "nf4"}, {"quantization": "int8"}, {"torch_compile": True}])
def test_what_needs_whole_weights_is_for_ddp_alone(changes: dict[str, Any]) -> None:
    with pytest.raises(UntrainableError, match="`strategy: ddp`"):
        fsdp("2xRTX-4090", **changes)
    assert ddp("2xRTX-4090", **changes).strategy == "ddp"


def test_the_largest_batch_is_looked_for_with_as_many_micro_batches() -> None:
    here = planner("2xRTX-4090")
    config = with_changes(SHARED, strategy="ddp")
    found = largest_batch(here, config).value
    assert found >= 1
    fits = {
        rows: here.plan(with_changes(config, batch_size=rows, target_batch_size=8 * rows)).fits
        for rows in (found, found + 1)
    }
    assert fits == {found: True, found + 1: False}
