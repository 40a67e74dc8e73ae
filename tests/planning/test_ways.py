"""All ways to train a config side by side, the fastest that fits, and times of several processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_backend.hardware.catalog import catalog
from lora_backend.planning.cost.collectives import BRIDGED_BYTES_PER_S, NETWORK_BYTES_PER_S, ON_BOARD_BYTES_PER_S, Ring
from lora_backend.planning.cost.step_time import DEFAULT_LINK_BYTES_PER_S, HOP_S, LINK_SHARE, Cpu
from lora_backend.planning.estimate import Conditions, estimate
from lora_backend.planning.fastest_way import fastest_that_fits
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.price import Price
from lora_backend.planning.targets import GIB, Target, of_words
from lora_backend.planning.ways import WAYS, options_on_this_machine, plan_ddp, plan_fsdp, plan_single
from tests.planning.formula_plans import CONFIG, FACTS, source

DEEP = {**FACTS, "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336}
SHARED = with_changes(CONFIG, target_batch_size=16)
HOST = Target("cpu", "CPU", 256 * GIB)


def planner(words: str, **more: Any) -> Planner:
    """Of a model whose figures are as certain as a trace's."""
    formula = source(DEEP)
    return Planner(lambda config: replace(formula(config), expected_error=0.01), of_words(words), **more)


def step_s(plan: Any, config: Any, *conditions: Any) -> tuple[float, float]:
    found = estimate(plan, config, *conditions)
    assert found is not None
    return found.step_s


def test_a_ring_sends_two_times_all_but_one_share_to_sum_and_once_to_gather() -> None:
    ring = Ring(4, (1e9, 4e9))
    assert ring.summed(8e9, 2) == pytest.approx([12e9 / 4e9 + 2 * HOP_S[0], 12e9 / 1e9 + 2 * HOP_S[1]])
    assert ring.gathered(8e9, 1) == pytest.approx([6e9 / 4e9 + HOP_S[0], 6e9 / 1e9 + HOP_S[1]])


def test_the_slowest_link_of_a_ring_counts() -> None:
    gpus = of_words("3xRTX-4090")
    speeds = {(0, 1): 50e9, (1, 2): 8e9, (0, 2): 50e9}
    known = Ring.of(gpus, 3, 1, lambda a, b: speeds[a, b])
    assert known.bytes_per_s == (8e9 * LINK_SHARE[0], 8e9 * LINK_SHARE[1])
    default = Ring.of(gpus, 3, 1, None).bytes_per_s
    assert default == (DEFAULT_LINK_BYTES_PER_S * LINK_SHARE[0], DEFAULT_LINK_BYTES_PER_S * LINK_SHARE[1])
    assert Ring.of(of_words("2xRTX-3090"), 2, 1, None).bytes_per_s == (default[0], 56.25e9 * LINK_SHARE[1])
    assert Ring.of(of_words("2xH100-80G"), 2, 1, None).bytes_per_s == (450e9 * LINK_SHARE[0], 450e9 * LINK_SHARE[1])
    assert Ring.of(of_words("H100-80G"), 2, 2, None).bytes_per_s == NETWORK_BYTES_PER_S


def test_every_card_with_nvlink_has_a_rate() -> None:
    assert {gpu.name for gpu in catalog() if gpu.nvlink} == set(BRIDGED_BYTES_PER_S) | set(ON_BOARD_BYTES_PER_S)


def test_micro_batches_are_dealt_out_in_whole_rounds() -> None:
    """16 of them: 8 on each of two GPUs, 6, 5 and 5 on three."""
    alone = step_s(planner("H100-80G").plan(SHARED), SHARED)
    for count, rounds in ((2, 8), (3, 6), (4, 4)):
        here = planner(f"{count}xH100-80G")
        for end, found in enumerate(step_s(plan_ddp(here, SHARED, here.targets), SHARED)):
            assert alone[end] * rounds / 16 < found < alone[end] * rounds / 16 * 1.02


def test_the_slowest_gpu_sets_the_pace_and_the_plan_says_how_long_the_others_wait() -> None:
    small = Planner(source(FACTS), of_words("RTX-3060,RTX-4090"))
    plan = plan_ddp(small, SHARED, small.targets)
    slow = step_s(plan_single(small, SHARED, small.targets[:1]), SHARED)
    assert step_s(plan, SHARED)[1] == pytest.approx(slow[1] / 2, rel=0.02)
    (way,) = (way for way in options_on_this_machine(small, SHARED, small.targets) if way.code == "ddp")
    assert way.note is not None
    assert "GPU 0 (RTX-3060-12G) sets the pace: GPU 1 (RTX-4090) waits" in way.note.text()


def test_gathering_is_hidden_at_best_and_comes_on_top_at_worst() -> None:
    here = planner("4xH100-80G")
    ddp, fsdp = (step_s(make(here, SHARED, here.targets), SHARED) for make in (plan_ddp, plan_fsdp))
    slow = Conditions(lambda a, b: 4e9)
    assert ddp[0] < fsdp[0] < 2 * ddp[0]
    assert step_s(plan_fsdp(here, SHARED, here.targets), SHARED, slow)[0] > 4 * fsdp[0]
    offloaded = with_changes(SHARED, fsdp_offload_params=True)
    assert step_s(plan_fsdp(here, offloaded, here.targets), offloaded)[1] > fsdp[1]


def test_processes_on_a_cpu_share_its_cores() -> None:
    here = Planner(source(FACTS), (HOST,))
    config = with_changes(SHARED, precision="fp32", num_processes=2)
    cores = Conditions(cpu=Cpu(8, 50e9))
    alone = step_s(here.plan(with_changes(config, num_processes=None)), config, cores)
    together = step_s(plan_ddp(here, config, (HOST,)), config, cores)
    assert together[0] == pytest.approx(alone[0], rel=0.05)


def test_all_ways_stand_side_by_side_with_figures_and_the_keys_that_launch_them() -> None:
    here = planner("2xRTX-4090", host=HOST)
    ways = options_on_this_machine(here, SHARED, here.targets, Conditions(num_rows=1600), Price(0.5, "EUR"))
    assert tuple(way.code for way in ways) == WAYS
    by_code = {way.code: way for way in ways}
    assert dict(by_code["ddp"].patch) == {"strategy": "ddp", "num_processes": 2}
    assert dict(by_code["single_4bit"].patch) == {"strategy": "single", "quantization": "nf4"}
    assert dict(by_code["fsdp_offload"].patch) == {"strategy": "fsdp", "fsdp_offload_params": True, "num_processes": 2}
    for way in ways:
        assert way.plan is not None
        assert way.time is not None
        assert way.tokens_per_s == pytest.approx([16 * 1024 / second for second in reversed(way.time.step_s)])
        assert way.epoch_s == pytest.approx([100 * second for second in way.time.step_s])
        assert way.epoch_cost == pytest.approx([second / 3600 * 0.5 * way.num_gpus for second in way.epoch_s or ()])
        again = here.plan(with_changes(SHARED, **way.patch.as_values())) if way.plan.is_shared else way.plan
        assert again.devices[0].breakdown == way.plan.devices[0].breakdown
    fullest = {code: way.fullest_bytes for code, way in by_code.items()}
    assert fullest["fsdp_offload"] < fullest["fsdp"] < fullest["ddp"]  # type: ignore[operator]
    assert fullest["single_4bit"] < fullest["single"]  # type: ignore[operator]


def test_a_way_that_cannot_be_had_says_why() -> None:
    alone = planner("RTX-4090")
    said = {way.code: way.reason for way in options_on_this_machine(alone, SHARED, alone.targets)}
    assert said["single"] is None
    assert said["layer_split"] is not None
    assert "several GPUs" in said["layer_split"].text()
    assert said["ddp"] is not None
    assert "at least two processes" in said["ddp"].text()


@pytest.mark.parametrize(("words", "changes", "code", "why"), [
    ("4xH100-80G", {}, "ddp", "ddp on 4 GPUs: about 4 times one GPU's pace."),
    ("4xH100-80G", {"target_batch_size": None}, "single", "one micro-batch"),
    ("4xRTX-4060-Ti-16G", {"target_batch_size": None, "gradient_checkpointing": True}, "layer_split", "one GPU alone it would be tight"),
    ("H100-80G", {}, "single", "no other device"),
    ("4xRTX-3060", {"gradient_checkpointing": True}, "fsdp", "fsdp on 4 GPUs: one GPU alone does not hold it."),
    ("2x80", {"target_batch_size": 3}, "ddp", "ddp on 2 GPUs: the fastest that fits, as far"),
    ("2x3", {}, "fsdp_offload", "nothing fits"),
    ("4xH100-80G", {"num_processes": 1}, "single", "no other way that fits is faster"),
    ("4xH100-80G", {"num_processes": 3}, "ddp", "ddp on 3 GPUs"),
])  # fmt: skip
def test_auto_is_the_fastest_that_fits_and_says_why(words: str, changes: dict[str, Any], code: str, why: str) -> None:
    here = planner(words, host=HOST)
    config = with_changes(SHARED, **changes)
    found = fastest_that_fits(here, config, here.targets)
    assert (found.way.code, why in found.reason.text()) == (code, True), found.reason.text()


def test_no_more_gpus_are_taken_than_make_a_step_shorter() -> None:
    here = planner("8xH100-80G")
    config = with_changes(SHARED, target_batch_size=6)
    assert fastest_that_fits(here, config, here.targets).way.num_gpus == 6
    here = planner("5xH100-80G")
    assert fastest_that_fits(here, config, here.targets).way.num_gpus == 3


def test_a_slow_card_is_left_out_where_it_would_hold_the_fast_one_up() -> None:
    here = Planner(source(FACTS), of_words("RTX-3060,H100-80G"))
    found = fastest_that_fits(here, SHARED, here.targets)
    assert found.way.code == "single"
    assert found.way.plan is not None
    assert found.way.plan.used[0].target.device == 1
    assert replace(found).reason == found.reason
