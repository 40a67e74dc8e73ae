"""A GPU at a moment, in words, shares and figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_backend.hardware.inventory import Gpu
from lora_backend.runs.history.usage import GpuUsage
from lora_backend.views.gpu_view import (
    KEPT_S,
    Bullet,
    Reading,
    bullet_of,
    figures_of,
    kept_readings,
    memory_parts,
    untold,
)

GIB = 2**30
GPU = Gpu(0, "GPU-a", "A", 24 * GIB, 12 * GIB, (8, 0), utilization=0.87, temperature_c=64, power_w=212.4, power_limit_w=350.0)  # fmt: skip


def said(found: GpuUsage) -> list[str]:
    return [part.text("en") for part in memory_parts(found)]


def test_memory_is_shown_with_whose_it_is_and_the_plan() -> None:
    found = GpuUsage(GPU, planned_bytes=18 * GIB, trainer_bytes=9 * GIB)
    assert bullet_of(found) == Bullet(trainer=0.375, others=0.125, planned=0.75)
    assert said(found) == [
        "12.00 GiB of 24.00 GiB in use",
        "9.00 GiB by the trainer",
        "3.00 GiB by others",
        "┃ planned at most 18.00 GiB",
    ]


def test_where_nobody_says_whose_it_is_all_counts_and_without_a_plan_there_is_no_mark() -> None:
    found = GpuUsage(GPU, None, None)
    assert bullet_of(found) == Bullet(0.5, 0.0, None)
    assert said(found) == ["12.00 GiB of 24.00 GiB in use"]


def test_more_than_planned_is_said_and_no_bar_is_longer_than_the_gpu() -> None:
    found = GpuUsage(GPU, planned_bytes=8 * GIB, trainer_bytes=13 * GIB)
    assert bullet_of(found) == Bullet(0.5, 0.0, 1 / 3)
    assert said(found)[-1] == "⚠ 5.00 GiB more than planned"
    assert bullet_of(GpuUsage(replace(GPU, total_bytes=0), 8 * GIB, None)) == Bullet(1.0, 0.0, 1.0)


def test_figures_have_their_past_and_a_dash_where_the_driver_is_silent() -> None:
    past = [Reading(float(at), replace(GPU, utilization=at / 10)) for at in range(3)]
    busy, warm, power = figures_of([*past, Reading(3.0, GPU)])
    assert [str(one.text) for one in (busy, warm, power)] == ["87%", "64 °C", "212 of 350 W"]
    assert busy.past == [0, 10, 20, 87]
    silent = replace(GPU, temperature_c=None, power_limit_w=None)
    busy, warm, power = figures_of([Reading(0.0, silent)])
    assert [one.text for one in (busy, warm, power)] == ["87%", "–", "212 W"]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({}, None),
        ({"power_w": None}, "Not reported by this GPU's driver: Power."),
        ({"power_w": None, "temperature_c": None}, "Not reported by this GPU's driver: Temperature and Power."),
        (
            {"power_w": None, "temperature_c": None, "utilization": None},
            "This GPU's driver reports no utilization, temperature or power.",
        ),
    ],
)
def test_a_dash_is_explained(missing: dict[str, Any], said: str | None) -> None:
    found = untold(figures_of([Reading(0.0, replace(GPU, **missing))]))
    assert (found and found.text("en")) == said


def test_five_minutes_are_kept_and_a_clock_that_goes_back_begins_anew() -> None:
    readings: list[Reading] = []
    for at in range(0, 2 * KEPT_S, 2):
        readings = kept_readings(readings, Reading(float(at), GPU))
    assert readings[-1].at - readings[0].at == KEPT_S
    assert len(kept_readings(readings, Reading(0.0, GPU))) == 1
