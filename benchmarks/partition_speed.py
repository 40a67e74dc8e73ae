"""The partition: how long the best split of 126 blocks, embedding and head takes, in milliseconds of this machine.

Blocks of two kinds, each device with an overhead, a dear head. The first call for a number of devices of each kind also
lists their sets; that is counted here too, so a change of the model alone costs less.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.noise import median_and_spread
from lora_backend.planning.split.partition import Costs, Device, partition
from lora_backend.planning.split.reach import device_sets

GIB = 2**30
FOUR_KINDS = (80, 48, 24, 16) * 4
EIGHT = (80, 48, 40, 32, 24, 20, 16, 12)
SIXTEEN = tuple(range(12, 92, 5))


def main() -> None:
    pairs: dict[str, Any] = {"link_speed": lambda a, b: 600.0 if a // 2 == b // 2 else 32.0}
    mixed: dict[str, Any] = {"link_speed": lambda a, b: float((7 * a + 13 * b) % 29 + 1)}
    _line("16 GPUs of four kinds (four each)", FOUR_KINDS)
    _line("8 GPUs, all different", EIGHT)
    _line("16 GPUs, all different", SIXTEEN)
    _line("16 GPUs, all different, every one used", SIXTEEN, every_device=True)
    _line("  and one so small that it cannot hold every kind of block", (1, *SIXTEEN[1:]), runs=3, every_device=True)
    _line("16 GPUs of four kinds, as few as hold it", FOUR_KINDS, goal="fewest")
    _line("16 GPUs, all different, as few as hold it", SIXTEEN, goal="fewest")
    _line("8 GPUs, all different, fast links in pairs", EIGHT, **pairs)
    _line("16 equal GPUs, fast links in pairs", (48,) * 16, **pairs)
    _line("16 GPUs of four kinds, fast links in pairs", FOUR_KINDS, **pairs)
    _line("16 GPUs, all different, no two links alike", SIXTEEN, runs=3, **mixed)


def costs_of_126_blocks() -> Costs:
    """Bytes of the order of a large model in 4 bit: two kinds of block, a head that costs four of them."""
    units = [10**9, *(1_700_000_000 + 170_000_000 * (block % 2) for block in range(126)), 7 * 10**9]
    sums = np.concatenate([[0], np.cumsum(units)])
    peak = sums[None, :] - sums[:, None] + 300_000_000
    return Costs(np.triu(peak, 1).astype(np.int64), (False, *[True] * 126, False))


def _line(title: str, capacities: tuple[int, ...], runs: int = 9, **options: Any) -> None:
    costs = costs_of_126_blocks()
    devices = [Device(capacity * GIB, 1_200_000_000) for capacity in capacities]
    partition(costs, devices, **options)
    marks = [time.perf_counter()]
    for _ in range(runs):
        device_sets.cache_clear()
        split = partition(costs, devices, **options)
        marks.append(time.perf_counter())
    times = [(after - before) * 1000 for before, after in pairwise(marks)]
    print(f"{title}: {median_and_spread(times, 'ms')}, bottleneck {split.bottleneck:.3f}", flush=True)
