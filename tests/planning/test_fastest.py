"""The shortest step, held against every contiguous split over every subset and order of the devices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise, permutations

import numpy as np
import pytest

from lora_backend.planning.cost.step_time import Transfers
from lora_backend.planning.plan import Options
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.split.fastest import EQUALLY_FAST, Speeds, fastest_split
from lora_backend.planning.split.partition import Costs, Device, Stage, score
from lora_backend.planning.targets import of_words
from tests.planning.formula_plans import CONFIG, FACTS, source


def every_split(num_units: int, num_devices: int) -> Iterator[tuple[Stage, ...]]:
    for size in range(1, min(num_units, num_devices) + 1):
        for cuts in combinations(range(1, num_units), size - 1):
            for order in permutations(range(num_devices), size):
                yield tuple(Stage(d, *cut) for d, cut in zip(order, pairwise((0, *cuts, num_units)), strict=True))


def step_seconds(stages: Sequence[Stage], speeds: Speeds) -> float:
    assignment = tuple(stage.device for stage in stages for _ in range(stage.start, stage.stop))
    working = sum(float(speeds.units[device][:, unit].mean()) for unit, device in enumerate(assignment))
    return working + float(speeds.transfers.of_assignment(assignment).mean())


def a_case(seed: int, num_devices: int, *, links_differ: bool) -> tuple[Costs, list[Device], Speeds]:
    random = np.random.default_rng(seed)
    num_units = int(random.integers(3, 8))
    sums = np.concatenate([[0], np.cumsum(random.integers(1, 20, num_units))])
    costs = Costs(np.triu(sums[None, :] - sums[:, None], 1), (False, *[True] * (num_units - 2), False))
    kinds = random.integers(0, 3, num_devices)
    devices = [Device(round(float(sums[-1]) * (0.3, 0.5, 0.9)[kind]), 1) for kind in kinds]
    work = random.uniform(0.5, 2.0, num_units)
    units = [np.stack([work, 2 * work]) * (1.0, 0.8, 1.7)[kind] for kind in kinds]
    links = random.uniform(1e8, 1e9, (num_devices, num_devices))
    speed = (lambda a, b: float(links[a, b])) if links_differ else None
    side = random.uniform(0, 1e7, num_units)
    return costs, devices, Speeds(units, Transfers(5e7, side, bool(seed % 2), speed))


@pytest.mark.parametrize("links_differ", [False, True])
@pytest.mark.parametrize("num_devices", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_no_split_that_fits_is_faster_and_none_as_fast_is_less_full(
    seed: int, num_devices: int, links_differ: bool
) -> None:
    costs, devices, speeds = a_case(seed, num_devices, links_differ=links_differ)
    splits = [
        (stages, score(costs, devices, stages).bottleneck) for stages in every_split(len(costs.is_block), num_devices)
    ]
    for bound in (0.9, 1.0):
        fits = [(step_seconds(stages, speeds), full, len(stages)) for stages, full in splits if full <= bound]
        if fits:
            break
    found = fastest_split(costs, devices, speeds, 0.9)
    if not fits:
        assert found is None
        return
    assert found is not None
    shortest, _, most = min(fits, key=lambda one: (round(one[0], 9), one[2]))
    assert len(found.stages) <= most, "nobody waits for one more device where the step is as long without it"
    assert step_seconds(found.stages, speeds) <= shortest * EQUALLY_FAST * (1 + 1e-12)
    as_fast = [full for seconds, full, size in fits if seconds <= shortest * EQUALLY_FAST and size <= most]
    assert found.bottleneck == pytest.approx(min(as_fast))


def test_eight_devices_of_eight_kinds_are_searched_whole() -> None:
    random = np.random.default_rng(3)
    sums = np.arange(13) * 10
    costs = Costs(np.triu(sums[None, :] - sums[:, None], 1), (False, *[True] * 10, False))
    devices = [Device(20 + 5 * index, 1) for index in range(8)]
    units = [np.ones((2, 12)) * speed for speed in random.uniform(1, 3, 8)]
    found = fastest_split(costs, devices, Speeds(units, Transfers(1e6, np.zeros(12), False)), 1.0)
    assert found is not None
    assert found.is_exact
    assert found.bottleneck <= 1


def plan_for(words: str, goal: str, **changes: object) -> tuple[str, ...]:
    planner = Planner(source(FACTS), of_words(words))
    plan = planner.plan(with_changes(CONFIG, **changes), Options(goal=goal))  # type: ignore[arg-type]
    assert plan.fits
    return tuple(device.target.name for device in plan.used)


def test_speed_takes_the_faster_card_alone_where_balance_spreads() -> None:
    assert plan_for("RTX-3060-12G,RTX-4090", "speed") == ("RTX-4090",)
    assert len(plan_for("RTX-3060-12G,RTX-4090", "balance")) == 2


def test_speed_takes_the_fewest_where_nobody_told_a_rate() -> None:
    """All but one wait in a split, so no second card makes a step shorter."""
    assert len(plan_for("12,12", "speed")) == 1
    assert len(plan_for("12,12", "balance")) == 2


def test_a_split_that_is_needed_puts_more_on_the_faster_card() -> None:
    planner = Planner(source({**FACTS, "num_hidden_layers": 60}), of_words("RTX-4090,RTX-3090"))
    config = with_changes(CONFIG, gradient_checkpointing=True, batch_size=1)
    plans = {goal: planner.plan(config, Options(goal=goal)) for goal in ("balance", "speed")}
    assert all(plan.fits for plan in plans.values())
    fast, even = (len(plans[goal].devices[0].blocks) for goal in ("speed", "balance"))
    assert fast >= even


def test_what_does_not_fit_is_placed_as_by_balance() -> None:
    planner = Planner(source(FACTS), of_words("RTX-3060-12G,RTX-3060-12G"))
    config = with_changes(CONFIG, batch_size=64, max_length=4096)
    plans = [planner.plan(config, Options(goal=goal)) for goal in ("balance", "speed")]
    assert not plans[0].fits
    assert plans[0].assignment == plans[1].assignment
    assert math.isclose(plans[0].bottleneck_utilisation, plans[1].bottleneck_utilisation)


@pytest.mark.parametrize(("num_devices", "links_differ"), [(8, True), (16, False)])
def test_a_search_that_would_take_too_long_is_made_smaller_and_says_so(num_devices: int, links_differ: bool) -> None:
    random = np.random.default_rng(5)
    sums = np.arange(21) * 10
    costs = Costs(np.triu(sums[None, :] - sums[:, None], 1), (False, *[True] * 18, False))
    devices = [Device(60 + 7 * index, 1) for index in range(num_devices)]
    units = [np.ones((2, 20)) * speed for speed in random.uniform(1, 3, num_devices)]
    links = random.uniform(1e8, 1e9, (num_devices, num_devices))
    transfers = Transfers(1e6, np.zeros(20), False, (lambda a, b: float(links[a, b])) if links_differ else None)
    found = fastest_split(costs, devices, Speeds(units, transfers), 1.0)
    assert found is not None
    assert not found.is_exact
    assert found.bottleneck <= 1
