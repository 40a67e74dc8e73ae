"""Forty pairs of model and GPUs, held against an oracle of its own: no verdict flips, nothing is better placed."""

from __future__ import annotations

import pytest

from lora_backend.planning.targets import of_words
from tests.planning.forty_pairs import (
    PAIRS,
    Pair,
    maps_of,
    planned,
)

ROUNDING = 1e-6


def named(pair: Pair) -> str:
    return f"{pair[0].split('/')[1]} {pair[1]}x{pair[2]} on {pair[3]}"


@pytest.mark.parametrize("pair", PAIRS, ids=named)
def test_no_verdict_flips_and_nothing_is_placed_better(pair: Pair) -> None:
    targets = of_words(pair[3])
    capacities = [target.capacity_bytes for target in targets]
    plan, priced = planned(pair)
    true = priced.bottleneck(plan.assignment, capacities)
    assert plan.bottleneck_utilisation == pytest.approx(true, rel=ROUNDING)
    assert plan.fits == (true <= 1)
    assert true <= priced.least_bottleneck(capacities) * (1 + ROUNDING)
    others = [placed for placed in maps_of(pair[0], targets, plan.profile) if placed is not None]
    for placed in others:
        assert true <= priced.bottleneck(placed, capacities) * (1 + ROUNDING)
