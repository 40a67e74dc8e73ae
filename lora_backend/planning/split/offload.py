"""A placement for loading alone: as many units as hold on GPUs by their weights, the rest in host memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.split.partition import Costs, Device, Split, partition
from lora_backend.planning.targets import Target

ROOM = 1.05
"""Weights and a little: a forward pass for a try needs some room too."""


def with_host_memory(
    memory: Memory, gpus: Sequence[Target], host: Target | None, *, every_device: bool = False
) -> tuple[list[int | str], int]:
    """The device of each unit, and how many bytes find no place anywhere.

    The first units go to the GPUs, best split by their weights; those behind them to the host, if there is one.
    """
    weights = [memory.weights_bytes(unit) * ROOM for unit in range(memory.num_units)]
    devices = [Device(gpu.capacity_bytes, memory.overhead_bytes) for gpu in gpus]
    for count in range(memory.num_units, -1, -1):
        behind = round(sum(weights[count:]))
        if count and (split := _split(weights[:count], memory.is_block[:count], devices, every_device)).bottleneck > 1:
            continue
        if behind and host is None:
            break
        if host and behind > host.capacity_bytes:  # with fewer on the GPUs still more would be behind
            return [], behind - host.capacity_bytes
        placed = [gpus[device].device for device in split.assignment] if count else []
        return [*placed, *["cpu"] * (memory.num_units - count)], 0
    whole = _split(weights, memory.is_block, devices, every_device)
    over = [
        sum(weights[stage.start : stage.stop])
        + devices[stage.device].overhead_bytes
        - devices[stage.device].capacity_bytes
        for stage in whole.stages
    ]
    return [], round(sum(max(excess, 0) for excess in over))


def _split(weights: Sequence[float], is_block: tuple[bool, ...], devices: list[Device], every_device: bool) -> Split:
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    table = np.triu(np.ceil(sums[None, :] - sums[:, None]), 1).astype(np.int64)
    table = np.maximum.accumulate(np.maximum.accumulate(table, axis=1)[::-1], axis=0)[::-1]
    return partition(
        Costs(np.triu(table, 1), is_block), devices, every_device=every_device and sum(is_block) >= len(devices)
    )
