"""One step in time: its lanes have no gap and no overlap, and come to just what the estimate says."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.cost.step_time import Cpu, unit_seconds
from lora_backend.planning.estimate import Conditions, estimate
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import GIB, Target, of_words
from lora_backend.planning.timeline import WORKING, StepTimeline, step_timeline
from lora_backend.planning.ways import plan_ddp, plan_fsdp
from tests.planning.formula_plans import CONFIG, FACTS, source

TIED = {**FACTS, "tie_word_embeddings": True}
SEVERAL = with_changes(CONFIG, target_batch_size=3)
MEASURED = Conditions(cpu=Cpu(2, 1e11))


def planner(words: str, facts: dict[str, Any] = FACTS) -> Planner:
    return Planner(source(facts), of_words(words))


def by_hand(facts: dict[str, Any], config: TrainingConfig, *devices: int) -> Plan:
    """Blocks that go to the devices in turn, so that every boundary is crossed."""
    here = planner("RTX-4090,RTX-3090,RTX-3060", facts)
    num_units = 13 if facts.get("tie_word_embeddings") else 14
    return here.score(config, tuple(devices[unit * len(devices) // num_units] for unit in range(num_units)))


def shared(way: Any, words: str, config: TrainingConfig) -> Plan:
    here = planner(words)
    plan: Plan = way(here, config, here.targets)
    return plan


def on_cpu() -> Plan:
    host = Target("cpu", "CPU", 64 * GIB)
    return Planner(source(FACTS), (host,)).plan(with_changes(CONFIG, precision="fp32"))


WAYS = {
    "single": lambda config: planner("RTX-4090").plan(config),
    "split": lambda config: by_hand(FACTS, config, 0, 1, 2),
    "there and back": lambda config: by_hand(FACTS, config, 0, 1, 0, 2),
    "tied": lambda config: by_hand(TIED, config, 0, 1, 2),
    "cpu": lambda config: on_cpu(),
    "ddp": lambda config: shared(plan_ddp, "RTX-4090,RTX-3090", config),
    "fsdp": lambda config: shared(plan_fsdp, "RTX-4090,RTX-3090", config),
}


@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_every_lane_is_as_long_as_the_estimate_without_a_gap(way: str, recomputes: bool) -> None:
    config = with_changes(SEVERAL, gradient_checkpointing=recomputes)
    plan = WAYS[way](config)
    found, said = step_timeline(plan, config, MEASURED), estimate(plan, config, MEASURED)
    assert found is not None
    assert said is not None
    assert found.step_s == pytest.approx(said.step_s)
    assert len(found.lanes) == len(plan.used)
    for lane in found.lanes:
        end = (0.0, 0.0)
        for segment in lane.segments:
            assert segment.start_s == pytest.approx(end)
            assert min(segment.duration_s) >= -1e-12
            end = segment.end_s
        assert end == pytest.approx(said.step_s)


@pytest.mark.parametrize("way", ["split", "there and back", "tied"])
def test_of_a_split_one_device_works_at_a_time_and_each_as_long_as_its_units_take(way: str) -> None:
    plan = WAYS[way](CONFIG)
    found = step_timeline(plan, CONFIG)
    assert found is not None
    busy = sum(found.share(lane, *WORKING, "transfer") for lane in found.lanes)
    assert busy == pytest.approx(1), "somebody is always at it, and never two"
    values = plan.profile.monomials(plan.workload.size)
    for lane in found.lanes:
        units = unit_seconds(plan.profile, values, lane.device.target, Cpu())
        assert units is not None
        assert lane.seconds(*WORKING) == pytest.approx(tuple(units[:, list(lane.device.units)].sum(axis=1)))
        blocks = [block for segment in lane.segments if segment.kind == "forward" for block in segment.blocks]
        assert sorted(blocks) == sorted(lane.device.blocks)


def test_backward_takes_longer_and_goes_the_other_way_and_a_tied_head_is_where_the_embedding_is() -> None:
    found = timeline(by_hand(TIED, CONFIG, 0, 1, 2), CONFIG)
    order = sorted(
        (segment.start_s, lane.device.target.device, segment.kind) for lane in found.lanes for segment in lane.segments if segment.kind in WORKING
    )  # fmt: skip
    assert [device for _, device, _ in order] == [0, 1, 2, 0, 0, 2, 1, 0]
    recomputed = with_changes(CONFIG, gradient_checkpointing=True)
    for config, least in ((CONFIG, 0.7), (recomputed, 1.4)):
        (lane,) = timeline(planner("RTX-4090").plan(config), config).lanes
        forward, backward = lane.seconds("forward"), lane.seconds("backward")
        assert all(least < there / back for there, back in zip(backward, forward, strict=True))


def test_of_unequal_cards_with_ddp_the_faster_waits_and_all_sum_their_gradients() -> None:
    config = with_changes(CONFIG, target_batch_size=4)
    found = timeline(shared(plan_ddp, "H100-80G,RTX-3090", config), config)
    fast, slow = found.lanes
    assert found.num_turns == 2
    assert found.share(fast, "idle") > 0.5 > found.share(slow, "idle")
    assert fast.seconds("sum") == slow.seconds("sum") != (0, 0)
    assert fast.segments[-1].kind == "sum"
    # three micro-batches on two devices: the second has nothing to do in the last turn
    assert timeline(shared(plan_ddp, "2xRTX-4090", SEVERAL), SEVERAL).share(
        timeline(shared(plan_ddp, "2xRTX-4090", SEVERAL), SEVERAL).lanes[1], "idle"
    ) == pytest.approx(0.5, abs=0.05)


def test_only_fsdp_gathers_weights() -> None:
    for way, gathers in ((plan_ddp, False), (plan_fsdp, True)):
        found = timeline(shared(way, "2xRTX-4090", SEVERAL), SEVERAL)
        assert (found.lanes[0].seconds("gather")[1] > 0) is gathers


def test_a_card_whose_rates_nobody_told_us_has_no_lanes() -> None:
    assert step_timeline(planner("24,24").plan(CONFIG), CONFIG) is None


def timeline(plan: Plan, config: TrainingConfig) -> StepTimeline:
    found = step_timeline(plan, config)
    assert found is not None
    return found
