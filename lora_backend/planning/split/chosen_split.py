"""Which split a goal means: the least bottleneck, the fewest devices, or the shortest step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.cost.step_time import Cpu, LinkSpeed, Transfers, unit_seconds
from lora_backend.planning.split.fastest import Speeds, fastest_split
from lora_backend.planning.split.partition import Costs, Device, Split, partition
from lora_backend.planning.targets import Target

Goal = Literal["balance", "fewest", "speed"]
"""The fullest device as free as can be, as few devices as hold the model, or the shortest step among what fits."""


def split_for(
    memory: Memory,
    targets: Sequence[Target],
    *,
    goal: Goal,
    every_device: bool,
    max_utilisation: float,
    link_speed: LinkSpeed | None,
) -> Split:
    """The split over `targets`, all of which may be used. `link_speed` is between positions in them.

    For speed where a card's rates are not known, the fewest devices: of a split all but one wait. Where nothing fits, as
    balance.
    """
    devices = [Device(target.capacity_bytes, 0 if target.is_cpu else memory.overhead_bytes) for target in targets]
    costs = Costs(memory.interval_bytes, memory.is_block)
    if goal == "speed" and not every_device:
        speeds = _speeds(memory, targets, link_speed)
        if speeds is None:
            goal = "fewest"
        elif (found := fastest_split(costs, devices, speeds, max_utilisation)) is not None:
            return found
    return partition(
        costs,
        devices,
        every_device=every_device,
        goal="fewest" if goal == "fewest" else "balance",
        max_utilisation=max_utilisation,
        link_speed=link_speed,
    )


def _speeds(memory: Memory, targets: Sequence[Target], link_speed: LinkSpeed | None) -> Speeds | None:
    values = memory.profile.monomials(memory.workload.size)
    times = [unit_seconds(memory.profile, values, target, Cpu()) for target in targets]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return None
    return Speeds(known, Transfers.of(memory.profile, values, link_speed))
