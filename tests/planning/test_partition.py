"""The partition against every split there is, and what decides between equals."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_backend.errors import DeviceError
from lora_backend.planning.hand_placement import move
from lora_backend.planning.split import links
from lora_backend.planning.split import partition as partition_module
from lora_backend.planning.split.partition import Costs, Device, Stage, partition, score

GIB = 2**30


def costs_of(
    blocks: Sequence[int], *, embedding: int = 0, head: int = 0, transients: Sequence[int] | None = None
) -> Costs:
    """Embedding, blocks, head; an interval takes their sum and the largest transient among them."""
    units = [embedding, *blocks, head]
    transients = transients or [0] * len(units)
    interval = np.zeros((len(units) + 1, len(units) + 1), dtype=np.int64)
    for start in range(len(units)):
        for stop in range(start + 1, len(units) + 1):
            interval[start, stop] = sum(units[start:stop]) + max(transients[start:stop])
    return Costs(interval, (False, *[True] * len(blocks), False))


def plain(units: Sequence[int]) -> Costs:
    """Nothing but blocks."""
    whole = costs_of(units).interval_bytes
    return Costs(whole[1:-1, 1:-1], (True,) * len(units))


def all_splits(costs: Costs, devices: Sequence[Device], *, every_device: bool = False) -> list[tuple[Stage, ...]]:
    """Every contiguous split over every ordered choice of usable devices."""
    num_units = len(costs.is_block)
    usable = [index for index, device in enumerate(devices) if every_device or device.capacity_bytes > 0]
    found = []
    for size in [len(devices)] if every_device else range(1, min(len(usable), num_units) + 1):
        for cuts in combinations(range(1, num_units), size - 1):
            parts = list(pairwise((0, *cuts, num_units)))
            if every_device and not all(any(costs.is_block[start:stop]) for start, stop in parts):
                continue
            found += [
                tuple(Stage(device, *part) for device, part in zip(order, parts, strict=True))
                for order in permutations(usable, size)
            ]
    return found


def bottleneck(costs: Costs, devices: Sequence[Device], stages: Sequence[Stage]) -> Fraction:
    return max(
        Fraction(
            int(costs.interval_bytes[stage.start, stage.stop]) + devices[stage.device].overhead_bytes,
            devices[stage.device].capacity_bytes,
        )
        for stage in stages
    )


def best_of(costs: Costs, devices: Sequence[Device], **options: Any) -> tuple[Fraction, int]:
    return min((bottleneck(costs, devices, stages), len(stages)) for stages in all_splits(costs, devices, **options))


def random_case(seed: int) -> tuple[Costs, list[Device]]:
    """A small model and a few devices: blocks alike or not, a light or a giant head, devices alike or not."""
    draw = random.Random(seed)
    size = draw.randint(1, 5)
    spread = draw.choice([[10], [10, 13], range(1, 30), range(1, 4)])
    blocks = [draw.choice(spread) for _ in range(size)]
    transients = [draw.choice([0, 0, 5, 17]) for _ in range(size + 2)]
    costs = costs_of(blocks, embedding=draw.choice([0, 4, 20]), head=draw.choice([0, 6, 25, 90]), transients=transients)
    capacities = draw.choice([[40], [24, 48], range(5, 100), [3, 30, 300]])
    overheads = draw.choice([[0], [2], [0, 5, 9]])
    return costs, [Device(draw.choice(capacities), draw.choice(overheads)) for _ in range(draw.randint(1, 4))]


def test_a_thousand_random_cases_reach_the_least_bottleneck_with_the_fewest_devices() -> None:
    for seed in range(1000):
        costs, devices = random_case(seed)
        split = partition(costs, devices)
        found = bottleneck(costs, devices, split.stages)
        assert (found, len(split.stages)) == best_of(costs, devices), f"seed {seed}"
        assert split.is_exact
        assert split.bottleneck == float(found)
        assert score(costs, devices, split.stages) == split


def test_every_device_gets_a_block_at_the_least_bottleneck_that_allows_it() -> None:
    compared = 0
    for seed in range(1000, 1600):
        costs, devices = random_case(seed)
        if sum(costs.is_block) < len(devices):
            continue
        split = partition(costs, devices, every_device=True)
        assert {stage.device for stage in split.stages} == set(range(len(devices)))
        assert all(any(costs.is_block[stage.start : stage.stop]) for stage in split.stages)
        best, _ = best_of(costs, devices, every_device=True)
        assert bottleneck(costs, devices, split.stages) == best, f"seed {seed}"
        compared += 1
    assert compared > 300


def test_the_device_that_reaches_less_far_may_be_the_right_one_where_each_must_hold_a_block() -> None:
    """Blocks 10, 1, 10, 1: a small device holds only a 1, so a large one must not run past it."""
    costs = plain([10, 1, 10, 1])
    devices = [Device(20), Device(1), Device(20), Device(1)]
    split = partition(costs, devices, every_device=True)
    assert split.bottleneck == 1.0
    assert [stage.device for stage in split.stages] == [0, 1, 2, 3]


def test_fewest_takes_as_few_devices_as_keep_within_the_bound_and_then_the_least_bottleneck() -> None:
    fell_back = 0
    for seed in range(2000, 2300):
        costs, devices = random_case(seed)
        bound = random.Random(seed).choice([0.5, 0.7, 0.9])
        split = partition(costs, devices, goal="fewest", max_utilisation=bound)
        found = [(len(stages), bottleneck(costs, devices, stages)) for stages in all_splits(costs, devices)]
        within = [pair for pair in found if pair[1] <= Fraction(str(bound))]
        if within:
            assert (len(split.stages), bottleneck(costs, devices, split.stages)) == min(within), f"seed {seed}"
        else:
            assert split == partition(costs, devices), f"seed {seed}"
            fell_back += 1
    assert 0 < fell_back < 300


def test_a_utilisation_that_is_exactly_the_bound_keeps_within_it() -> None:
    """0.7 as floating point is a little less than seven tenths."""
    split = partition(plain([3, 4]), [Device(10), Device(10)], goal="fewest", max_utilisation=0.7)
    assert split.stages == (Stage(0, 0, 2),)


def test_one_device_holds_everything_even_over_its_capacity() -> None:
    split = partition(costs_of([10, 10], head=5), [Device(10, 5)])
    assert split.stages == (Stage(0, 0, 4),)
    assert split.bottleneck == 3.0


def test_more_devices_than_parts_leaves_devices_empty() -> None:
    split = partition(plain([7, 7]), [Device(10)] * 5)
    assert split.stages == (Stage(0, 0, 1), Stage(1, 1, 2))


def test_an_overhead_over_the_capacity_is_told_by_how_much() -> None:
    assert partition(plain([1, 1]), [Device(10, 30), Device(10, 38)]).bottleneck == 3.2


def test_a_device_without_capacity_is_never_chosen() -> None:
    split = partition(plain([100, 100]), [Device(0), Device(-5), Device(1)])
    assert split.stages == (Stage(2, 0, 2),)
    assert split.bottleneck == 200.0


def test_a_device_without_capacity_that_must_be_used_is_infinitely_full() -> None:
    devices = [Device(0), Device(10), Device(10)]
    split = partition(plain([4, 4, 1, 4, 4]), devices, every_device=True)
    assert split.bottleneck == math.inf
    assert [stage for stage in split.stages if stage.device == 0] == [Stage(0, 2, 3)]


def test_where_no_device_has_capacity_there_is_still_a_split() -> None:
    split = partition(plain([4, 4]), [Device(0), Device(0)])
    assert split.stages == (Stage(0, 0, 2),)
    assert split.bottleneck == math.inf


def test_a_giant_head_goes_to_the_device_that_can_hold_it() -> None:
    devices = [Device(24), Device(80), Device(24)]
    split = partition(costs_of([5] * 8, embedding=2, head=60), devices)
    assert split.stages[-1].device == 1
    assert split.bottleneck <= 1


def test_a_first_unit_that_carries_the_head_goes_to_the_device_that_can_hold_it() -> None:
    split = partition(costs_of([5] * 8, embedding=60), [Device(24), Device(80), Device(24)])
    assert split.stages[0].device == 1


def test_equal_devices_share_equal_blocks_and_stand_in_their_own_order() -> None:
    split = partition(plain([3] * 32), [Device(24 * GIB)] * 4)
    assert split.stages == (Stage(0, 0, 8), Stage(1, 8, 16), Stage(2, 16, 24), Stage(3, 24, 32))


def test_equal_bottlenecks_go_to_fewer_devices() -> None:
    """Two blocks are the least that some device must hold, and two devices do with that."""
    assert len(partition(plain([1] * 4), [Device(10)] * 3).stages) == 2


def test_devices_stand_in_their_own_order_unless_the_bottleneck_asks_for_another() -> None:
    """The small device could stand anywhere; of the orders that are as good, the lowest indices come first."""
    split = partition(plain([2] * 12), [Device(16), Device(8), Device(24)])
    assert [(stage.device, stage.stop - stage.start) for stage in split.stages] == [(0, 4), (1, 2), (2, 6)]


@pytest.mark.parametrize("every_device", [False, True])
def test_what_is_equal_otherwise_goes_to_more_capacity_then_to_low_indices_in_their_own_order(
    every_device: bool,
) -> None:
    for seed in range(5000, 5250):
        costs, devices = random_case(seed)
        if every_device and sum(costs.is_block) < len(devices):
            continue
        best = best_of(costs, devices, every_device=every_device)
        orders = [
            [stage.device for stage in stages]
            for stages in all_splits(costs, devices, every_device=every_device)
            if (bottleneck(costs, devices, stages), len(stages)) == best
        ]
        capacity = max(sum(devices[device].capacity_bytes for device in order) for order in orders)
        most = [order for order in orders if sum(devices[device].capacity_bytes for device in order) == capacity]
        _, preferred = min((sorted(order), order) for order in most)
        split = partition(costs, devices, every_device=every_device)
        assert [stage.device for stage in split.stages] == preferred, f"seed {seed}"


def test_of_two_parts_that_could_be_swapped_the_early_device_holds_the_larger() -> None:
    assert partition(plain([1] * 3), [Device(10)] * 2).stages == (Stage(0, 0, 2), Stage(1, 2, 3))


def test_a_difference_far_below_floating_point_still_decides() -> None:
    """n / (n + 1) and (n + 1) / (n + 2) with n = 2**52 − 2 round to one number; the first is less."""
    held = 2**52 - 2
    smaller, larger = Device(held + 1), Device(held + 2, 1)
    assert held / (held + 1) == (held + 1) / (held + 2)
    assert partition(plain([held]), [larger, smaller]).stages[0].device == 1
    assert partition(plain([held]), [smaller, larger]).stages[0].device == 0


def test_the_bottleneck_being_equal_the_other_devices_have_room() -> None:
    """The head alone decides the bottleneck; the rest fits on any one of the others, and goes to the large one."""
    split = partition(costs_of([1] * 8, head=72), [Device(10), Device(10), Device(80), Device(80)])
    assert {stage.device for stage in split.stages} == {2, 3}


@pytest.mark.parametrize("blocks", [28, 32, 48, 80, 126])
@pytest.mark.parametrize(
    "capacities", [(24, 12, 8), (24, 8, 8), (80, 48, 24), (16, 16), (6, 24), (24, 12), (24, 16), (40, 24, 24, 16)]
)  # fmt: skip
def test_equal_blocks_follow_free_memory_within_one_block(blocks: int, capacities: tuple[int, ...]) -> None:
    held = blocks_held(blocks, capacities)
    assert len(held) == len(capacities)
    for device, count in held.items():
        assert abs(count - blocks * capacities[device] / sum(capacities)) < 1


def blocks_held(blocks: int, capacities: Sequence[int]) -> dict[int, int]:
    """How many of so many equal blocks each device holds."""
    split = partition(plain([GIB] * blocks), [Device(capacity * GIB) for capacity in capacities])
    return {stage.device: stage.stop - stage.start for stage in split.stages}


@pytest.mark.parametrize("blocks", [28, 32, 48, 80, 126])
def test_a_device_takes_a_block_more_than_its_share_only_where_the_others_have_no_room_for_it(blocks: int) -> None:
    """Eight unequal devices: what small ones cannot take without being the fullest of all stays on the large one."""
    capacities = (80, 40, 24, 24, 16, 12, 11, 8)
    held = blocks_held(blocks, capacities)
    bound = max(Fraction(count, capacities[device]) for device, count in held.items())
    room = {device: math.floor(bound * capacities[device]) for device in held}
    share = Fraction(blocks, sum(capacities[device] for device in held))
    for device, count in held.items():
        others = sum(room.values()) - room[device]
        assert abs(count - share * capacities[device]) < 1 or others < blocks - (count - 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 60), st.lists(st.integers(2, 50), min_size=2, max_size=5))
def test_moving_one_block_to_another_device_never_makes_equal_blocks_more_even(
    blocks: int, capacities: list[int]
) -> None:
    """Σ blocks² / capacity, which is least in proportion to capacity, cannot be lessened within the bottleneck."""
    held = blocks_held(blocks, capacities)
    bound = max(Fraction(count, capacities[device]) for device, count in held.items())
    for giver, taker in permutations(held, 2):
        if held[giver] > 1 and Fraction(held[taker] + 1, capacities[taker]) <= bound:
            saved = Fraction(2 * held[giver] - 1, capacities[giver])
            assert saved <= Fraction(2 * held[taker] + 1, capacities[taker])


def test_balancing_the_other_devices_never_raises_the_bottleneck_nor_leaves_them_arbitrary() -> None:
    """Of all boundaries for the chosen order, the ones with the least Σ bytes² / capacity within the bottleneck."""
    for seed in range(3000, 3200):
        costs, devices = random_case(seed)
        split = partition(costs, devices)
        order = [stage.device for stage in split.stages]
        bound = bottleneck(costs, devices, split.stages)

        def unevenness(stages: Sequence[Stage], costs: Costs = costs, devices: list[Device] = devices) -> Fraction:
            return sum(
                (
                    Fraction((int(costs.interval_bytes[s.start, s.stop]) + devices[s.device].overhead_bytes) ** 2)
                    / devices[s.device].capacity_bytes
                    for s in stages
                ),
                Fraction(0),
            )

        alike = [
            stages
            for stages in all_splits(costs, devices)
            if [stage.device for stage in stages] == order and bottleneck(costs, devices, stages) <= bound
        ]
        assert unevenness(split.stages) == min(map(unevenness, alike)), f"seed {seed}"


def fast_pairs(a: int, b: int) -> float:
    return 600.0 if (a, b) in {(0, 2), (1, 3)} else 32.0


def test_among_equals_the_order_with_the_fastest_links_wins() -> None:
    split = partition(plain([5] * 8), [Device(10)] * 4, link_speed=fast_pairs)
    assert [stage.device for stage in split.stages] == [0, 2, 1, 3]


@pytest.mark.parametrize("few", [50, 1])
def test_links_never_cost_bottleneck_nor_devices_and_reach_the_largest_sum(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first, narrow search leaves orders out."""
    monkeypatch.setattr(links, "FEW_LABELS", few)
    for seed in range(4000, 4250):
        costs, devices = random_case(seed)
        draw = random.Random(seed)
        choices = draw.choice([[1.5, 600.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]])
        speeds: dict[tuple[int, int], float] = {
            pair: draw.choice(choices) for pair in combinations(range(len(devices)), 2)
        }
        every = sum(costs.is_block) >= len(devices) and draw.random() < 0.4

        def total(stages: Sequence[Stage], speeds: dict[tuple[int, int], float] = speeds) -> float:
            return sum(speeds[min(a.device, b.device), max(a.device, b.device)] for a, b in pairwise(stages))

        split = partition(costs, devices, link_speed=lambda *pair, s=speeds: s[pair], every_device=every)
        best = best_of(costs, devices, every_device=every)
        assert (bottleneck(costs, devices, split.stages), len(split.stages)) == best
        equals = [
            stages
            for stages in all_splits(costs, devices, every_device=every)
            if (bottleneck(costs, devices, stages), len(stages)) == best
        ]
        assert total(split.stages) == max(map(total, equals)), f"seed {seed}"


def test_links_that_are_all_alike_change_nothing() -> None:
    costs, devices = costs_of([5] * 9, head=11), [Device(30), Device(20), Device(10)]
    assert partition(costs, devices, link_speed=lambda a, b: 32.0) == partition(costs, devices)


def test_more_links_than_can_be_followed_still_give_a_whole_split_of_the_least_bottleneck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "MAX_LABELS", 3)
    monkeypatch.setattr(links, "FEW_LABELS", 2)
    costs, devices = costs_of([5] * 12, embedding=4, head=11), [Device(30 + index) for index in range(6)]
    split = partition(costs, devices, link_speed=lambda a, b: (7 * a + 3 * b) % 11)
    assert split.bottleneck == partition(costs, devices).bottleneck
    assert split.assignment == tuple(stage.device for stage in split.stages for _ in range(stage.start, stage.stop))


def test_more_sets_of_devices_than_can_be_looked_at_give_a_split_that_says_it_may_not_be_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs, devices = costs_of([5] * 12, embedding=4, head=11), [Device(30 + index, index % 2) for index in range(6)]
    best = partition(costs, devices)
    monkeypatch.setattr(partition_module, "MAX_SETS", 20)
    split = partition(costs, devices)
    assert best.is_exact
    assert not split.is_exact
    assert best.bottleneck <= split.bottleneck < 1.2 * best.bottleneck
    assert score(costs, devices, split.stages).bottleneck == split.bottleneck


def test_many_devices_of_few_kinds_are_split_exactly() -> None:
    split = partition(plain([4] * 126), [Device(capacity) for capacity in (80, 48, 24, 16)] * 4)
    assert split.is_exact
    held = {stage.device: stage.stop - stage.start for stage in split.stages}
    assert sum(held.values()) == 126
    # Within 0.75 they hold 4 · (15 + 9 + 4 + 3) = 124; the next that any can hold is a 16th block of 4 in 80.
    assert split.bottleneck == 64 / 80


def test_no_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="no device"):
        partition(plain([1]), [])


def test_more_devices_than_blocks_is_refused_where_each_must_hold_one() -> None:
    with pytest.raises(DeviceError, match="3 devices and only 2 blocks"):
        partition(costs_of([1, 1]), [Device(10)] * 3, every_device=True)


@pytest.mark.parametrize(
    "interval",
    [[[0, 5, 4], [0, 0, 3], [0, 0, 0]], [[0, 1, 2], [0, 0, 3], [0, 0, 0]], [[0, -1, 2], [0, 0, 1], [0, 0, 0]]],
)
def test_costs_that_shrink_as_the_interval_grows_are_a_mistake_of_the_caller(interval: list[list[int]]) -> None:
    with pytest.raises(AssertionError):
        Costs(np.array(interval, dtype=np.int64), (True, True))


@pytest.mark.parametrize(
    "stages",
    [
        (), (Stage(0, 0, 2),), (Stage(0, 1, 3),), (Stage(0, 0, 2), Stage(1, 1, 3)), (Stage(0, 0, 1), Stage(1, 2, 3)), (Stage(1, 2, 3), Stage(0, 0, 2)),
        (Stage(0, 0, 3), Stage(1, 3, 3)), (Stage(0, 0, 1), Stage(1, 1, 2), Stage(0, 2, 3)), (Stage(2, 0, 3),), (Stage(-1, 0, 3),),
    ],
)  # fmt: skip
def test_a_split_that_is_not_whole_is_refused(stages: tuple[Stage, ...]) -> None:
    with pytest.raises(DeviceError):
        score(plain([1, 1, 1]), [Device(10), Device(10)], stages)


def test_moving_a_range_changes_nothing_else() -> None:
    before = (0, 0, 0, 1, 1, 1)
    after = move(before, 1, 2, 1, num_devices=3)
    assert after == (0, 1, 1, 1, 1, 1)
    assert before == (0, 0, 0, 1, 1, 1)
    assert move(before, 4, 4, 2, num_devices=3) == (0, 0, 0, 1, 2, 1)


@pytest.mark.parametrize(
    ("first", "last", "device", "says"),
    [
        (-1, 2, 0, "no part -1"), (0, 6, 0, "no part 6.*0 to 5"), (3, 2, 0, "starts at 3 and ends before it, at 2"), (0, 1, 2, "no device 2.*0 to 1"),
        (0, 1, -1, "no device -1"),
    ],
)  # fmt: skip
def test_a_move_that_cannot_be_made_says_why(first: int, last: int, device: int, says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        move((0, 0, 0, 1, 1, 1), first, last, device, num_devices=2)
