"""Fits, tight or over: what the rule says of a device, of a plan, and of every kind of device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_backend.planning.cost.memory import CONTEXT_BYTES, Breakdown, Memory
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.one_gpu import single_is_enough
from lora_backend.planning.plan import Plan, score_plan
from lora_backend.planning.report import tone, verdict
from lora_backend.planning.targets import GIB, Target, of_words
from lora_backend.planning.verdict import LEAST_MARGIN, Verdict, uncertainty_bytes, verdict_of, worst_of
from lora_backend.views.plan_view import plan_table
from tests.planning.formula_plans import CPU, PROFILE, WORKLOAD

TRACED = replace(PROFILE, method="traced", expected_error=0.01)


def on_one(target: Target, profile: Profile = TRACED) -> Plan:
    """Everything on one device."""
    memory = Memory(profile, replace(WORKLOAD, on_gpu=not target.is_cpu))
    return score_plan(memory, [target], [0] * memory.num_units)


def sized(target: Target, share: float, profile: Profile = TRACED) -> Plan:
    """The same on a device of which it fills `share`."""
    total = on_one(target, profile).devices[0].breakdown.total
    return on_one(replace(target, total_bytes=round(total / share), held_bytes=0), profile)


@pytest.mark.parametrize(
    ("total", "uncertainty", "capacity", "expected"),
    [
        (100, 0, 100, "fits"),
        (90, 10, 100, "fits"),
        (90, 11, 100, "tight"),
        (100, 1, 100, "tight"),
        (101, 0, 100, "over"),
        (0, 0, 0, "fits"),
        (1, 0, 0, "over"),
    ],
)
def test_the_rule(total: int, uncertainty: int, capacity: int, expected: Verdict) -> None:
    assert verdict_of(total, uncertainty, capacity) == expected


def test_the_error_is_a_share_of_the_true_figure_and_the_overhead_may_be_twice_what_is_assumed() -> None:
    held = Breakdown(6 * GIB, 0, 0, 0, 2 * GIB, 0, GIB // 2)
    assert uncertainty_bytes(held, 0.5, 80 * GIB) == 8 * GIB + GIB // 2, "50% too low stands for twice as much"
    assert uncertainty_bytes(held, 0.2, 8 * GIB) == 2 * GIB + GIB // 2
    assert uncertainty_bytes(held, 0.0, 8 * GIB) == GIB // 2
    assert uncertainty_bytes(held, 0.0, 80 * GIB) == round(LEAST_MARGIN * 80 * GIB)
    assert uncertainty_bytes(held, 3.0, 80 * GIB) == uncertainty_bytes(held, 1.0, 80 * GIB) > 70 * GIB
    assert uncertainty_bytes(Breakdown(0, 0, 0, 0, 0, 0, 0), 0.5, 80 * GIB) == 0


@pytest.mark.parametrize("words", ["6", "RTX-4090", "H100-80G", "T4", "A100-40G"])
def test_a_gpu_that_is_98_percent_full_is_tight(words: str) -> None:
    (target,) = of_words(words)
    assert sized(target, 0.98).verdict == "tight"
    assert sized(target, 0.6).verdict == "fits"
    assert sized(target, 1.01).verdict == "over"


@pytest.mark.parametrize("total", [8 * GIB, 64 * GIB, 2048 * GIB])
def test_host_memory_that_is_98_percent_full_is_tight_though_it_has_hardly_any_overhead(total: int) -> None:
    exact = replace(TRACED, expected_error=0.0)
    held = Breakdown(round(0.98 * total), 0, 0, 0, 0, 0, 0)
    assert verdict_of(held.total, uncertainty_bytes(held, 0.0, total), total) == "tight"
    assert sized(CPU, 0.98, exact).verdict == "tight"
    assert sized(CPU, 0.9).verdict == "fits"


def test_a_formula_that_may_be_half_the_truth_fits_beyond_doubt_only_where_twice_as_much_would() -> None:
    (target,) = of_words("24")
    assert PROFILE.expected_error == 0.5
    assert sized(target, 0.6, PROFILE).verdict == "tight"
    assert sized(target, 0.6).verdict == "fits", "traced"
    assert sized(target, 0.3, PROFILE).verdict == "fits"
    assert sized(CPU, 0.6, PROFILE).verdict == "tight"


def test_a_plan_is_as_good_as_its_worst_device_that_is_used() -> None:
    memory = Memory(TRACED, WORKLOAD)
    placement = [*[0] * 7, *[1] * 7]
    free = score_plan(memory, of_words("24,24,0.1"), placement)
    assert [device.verdict for device in free.devices] == ["fits"] * 3, "the third holds nothing"
    assert free.verdict == "fits"
    second = free.devices[1].breakdown.total + CONTEXT_BYTES // 2
    targets = of_words("24,24,0.1")
    tight = score_plan(memory, [targets[0], replace(targets[1], total_bytes=second), targets[2]], placement)
    assert [device.verdict for device in tight.devices] == ["fits", "tight", "fits"]
    assert tight.verdict == "tight"
    assert tight.fits
    over = score_plan(
        memory, [replace(targets[0], total_bytes=GIB // 2), replace(targets[1], total_bytes=second)], placement
    )
    assert [device.verdict for device in over.devices] == ["over", "tight"]
    assert over.verdict == "over"
    assert not over.fits
    assert worst_of([]) == "fits"


def test_the_document_says_the_verdict_and_by_how_much_it_may_be_more_for_each_device() -> None:
    document = sized(of_words("24")[0], 0.98).document().to_json()
    (device,) = document["devices"]
    assert document["fits"] is True
    assert document["verdict"] == device["verdict"] == "tight"
    assert type(device["uncertainty_bytes"]) is int
    assert device["total_bytes"] + device["uncertainty_bytes"] > device["capacity_bytes"] >= device["total_bytes"]


# ------------------------------------------------------------------------------------------ in words


def said(plan: Plan, language: str = "en") -> str:
    return verdict(plan).text(language)


def test_a_tight_plan_says_what_is_left_against_what_may_be_needed_and_what_to_do() -> None:
    plan = sized(of_words("RTX-4090")[0], 0.98)
    (device,) = plan.devices
    left, more = f"{device.free_bytes / 2**20:.0f} MiB", f"{device.uncertainty_bytes / 2**20:.0f} MiB"
    assert said(plan) == (
        f"Tight: {left} would be left on GPU 0 (RTX-4090), but it may need up to {more} more than planned. "
        "Save memory, or close other programs that use it."
    )
    assert said(plan, "zh").startswith("余量不足：")
    assert all(figure in said(plan, "zh") for figure in (left, more))


def test_of_several_devices_the_one_that_is_most_in_doubt_is_named() -> None:
    memory = Memory(TRACED, WORKLOAD)
    placement = [*[0] * 7, *[1] * 7]
    totals = [device.breakdown.total for device in score_plan(memory, of_words("24,24"), placement).devices]
    targets = [
        replace(target, total_bytes=round(total / share))
        for target, total, share in zip(of_words("24,24"), totals, (0.9, 0.99), strict=True)
    ]
    plan = score_plan(memory, targets, placement)
    assert plan.verdict == "tight"
    assert "left on GPU 1 (24 GiB)" in said(plan)


def test_one_device_is_not_called_the_fullest_and_the_host_is_not_called_a_gpu() -> None:
    (gpu,) = of_words("RTX-4090")
    assert said(sized(gpu, 0.5)).startswith("It fits: 50% of the free memory on GPU 0 (RTX-4090), ")
    host = Target("cpu", "CPU", gpu.total_bytes)
    assert said(sized(host, 0.5)).startswith("It fits: 50% of the free memory on the CPU (host memory), ")
    for share in (0.5, 0.98, 1.1):
        assert "显存" not in said(sized(host, share), "zh")


def test_a_formula_says_its_measured_error_whatever_it_comes_to() -> None:
    (target,) = of_words("24")
    assert "a formula and may be 50% too low" in said(sized(target, 0.6, PROFILE))
    assert said(sized(target, 0.3, PROFILE)).startswith("It fits: ")
    assert said(sized(target, 0.3, PROFILE)).endswith("it would still fit if they were 50% too low.")
    assert said(sized(target, 1.2, PROFILE)).startswith("It does not fit: ")
    assert said(sized(target, 1.2, PROFILE)).endswith("may be off by 50%.")
    assert "formula" not in "".join(said(sized(target, share)) for share in (0.3, 0.98, 1.2))


def test_only_what_is_beyond_doubt_is_green() -> None:
    (target,) = of_words("24")
    assert [tone(sized(target, share)) for share in (0.5, 0.98, 1.1)] == ["good", "doubt", "bad"]
    assert [tone(sized(target, share, PROFILE)) for share in (0.05, 0.6, 1.1)] == ["doubt", "doubt", "bad"]


def test_the_table_marks_what_is_tight_and_what_is_over() -> None:
    (target,) = of_words("24")
    last = [plan_table(sized(target, share)).splitlines()[-1].rstrip() for share in (0.5, 0.98, 1.1)]
    assert [line.split("  ")[-1].strip() for line in last] == ["50", "98 ?", "110 !"]


def test_a_gpu_that_would_be_tight_is_not_called_enough_for_all_of_it() -> None:
    memory = Memory(TRACED, WORKLOAD)
    whole = memory.device(range(memory.num_units)).total
    tight, enough = (replace(of_words("24")[0], total_bytes=round(whole / share)) for share in (0.97, 0.8))
    split = score_plan(memory, [tight, replace(tight, device=1)], [*[0] * 7, *[1] * 7])
    assert single_is_enough(split) is None
    assert single_is_enough(score_plan(memory, [enough, replace(tight, device=1)], split.assignment)) is not None
