"""How long an optimizer step of several processes takes: the slowest device's passes, and what goes between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lora_backend.config.schema import TrainingConfig
from lora_backend.i18n import N_, Message
from lora_backend.planning.cost.collectives import Ring
from lora_backend.planning.cost.memory import SUM_BUCKET_BYTES
from lora_backend.planning.cost.scaling import Vector
from lora_backend.planning.cost.shards import ShardedMemory, memory_of
from lora_backend.planning.cost.step_time import (
    DEFAULT_LINK_BYTES_PER_S,
    LINK_SHARE,
    Cpu,
    LinkSpeed,
    Seconds,
    unit_seconds,
)
from lora_backend.planning.plan import Plan
from lora_backend.planning.processes.dealt import rounds_of
from lora_backend.planning.targets import Target


def shared_step_seconds(
    plan: Plan, config: TrainingConfig, values: Vector, link_speed: LinkSpeed | None, cpu: Cpu
) -> Seconds | None:
    """(2,): of one optimizer step; None for cards whose rates nobody told us. `values`: the monomials of a micro-batch.

    Every process waits for the slowest, whose share of the micro-batches is the largest: ⌈passes / processes⌉. Gradients are
    summed once, behind the last pass, which nothing overlaps. With fsdp each pass gathers the root and every block twice: the
    root while nothing computes, the blocks meanwhile at best; and copying them out of their buffers is never overlapped.
    """
    parts = shared_parts(plan, values, link_speed, cpu)
    if parts is None:
        return None
    rounds = rounds_of(config, plan.workload.num_processes)
    return np.asarray(rounds * (parts.computing + parts.gathering) + parts.summed)


@dataclass(frozen=True)
class SharedParts:
    """What a step of several processes is made of, each (2,)."""

    passes: tuple[Seconds, ...]
    """A pass of each device in use, as it would be alone."""
    computing: Seconds
    """The slowest device's."""
    gathering: Seconds
    """With fsdp, what a pass takes beside computing; 0 with ddp."""
    summed: Seconds
    """The sum of the gradients, once a step."""


def shared_parts(plan: Plan, values: Vector, link_speed: LinkSpeed | None, cpu: Cpu) -> SharedParts | None:
    """None for cards whose rates nobody told us."""
    passes = [pass_seconds(plan, device.target, values, cpu) for device in plan.used]
    known = [seconds for seconds in passes if seconds is not None]
    if len(known) < len(passes):
        return None
    world, slowest = plan.workload.num_processes, np.asarray(np.max(known, axis=0))
    targets = [device.target for device in plan.used]
    ring = Ring.of(targets, world, plan.num_nodes, _between_used(plan, link_speed))
    gathering = np.zeros(2) if plan.strategy == "ddp" else _with_gathering(plan, slowest, ring) - slowest
    gradients = plan.used[0].breakdown.adapter / (plan.num_processes if targets[0].is_cpu else 1)
    summed = ring.summed(gradients, max(-(-int(gradients) // SUM_BUCKET_BYTES), 1))
    return SharedParts(tuple(known), slowest, gathering, summed)


def pass_seconds(plan: Plan, target: Target, values: Vector, cpu: Cpu) -> Seconds | None:
    """(2,): one forward and backward pass of a process on a device; on a CPU with its share of the cores."""
    times = unit_seconds(plan.profile, values, target, cpu)
    if times is None:
        return None
    crowd = plan.num_processes if target.is_cpu else 1
    return np.asarray(times.sum(axis=1) * crowd)


def slowest_note(plan: Plan, cpu: Cpu) -> Message | None:
    """Of unequal GPUs: which one sets the pace, and how long the fastest waits for it."""
    if not plan.is_shared:
        return None
    values = plan.profile.monomials(plan.workload.size)
    passes = [(pass_seconds(plan, device.target, values, cpu), device.target.label) for device in plan.used]
    middles = [(float(seconds.mean()), label) for seconds, label in passes if seconds is not None]
    if len(middles) < len(passes) or len(middles) < 2:
        return None
    (fastest, quick), (slowest, slow) = min(middles, key=lambda one: one[0]), max(middles, key=lambda one: one[0])
    waits = round(100 * (1 - fastest / slowest))
    if waits < 5:
        return None
    return Message(
        N_("{slow} sets the pace: {quick} waits for it {percent}% of the time."),
        {"slow": slow, "quick": quick, "percent": waits},
    )


def _between_used(plan: Plan, link_speed: LinkSpeed | None) -> LinkSpeed | None:
    """Between positions in `plan.used`, from one between positions in `plan.devices`."""
    if link_speed is None:
        return None
    places = [place for place, device in enumerate(plan.devices) if device.units]
    return lambda one, other: link_speed(places[one], places[other])


def _with_gathering(plan: Plan, computing: Seconds, ring: Ring) -> Seconds:
    """(2,): a pass, and the weights that it gathers."""
    memory = memory_of(plan.profile, replace(plan.workload, is_sharded=True))
    assert isinstance(memory, ShardedMemory)
    blocks, root = memory.block_bytes, memory.root_bytes
    gathered = 2 * (root + sum(blocks))
    seconds = ring.gathered(gathered, 2 * (1 + len(blocks)))
    if plan.workload.offloads:
        own = gathered / plan.workload.num_processes
        seconds = seconds + np.array([own / (DEFAULT_LINK_BYTES_PER_S * share) for share in reversed(LINK_SHARE)])
    specs = [device.target.spec for device in plan.used]
    copied = max((2 * gathered / spec.bandwidth_bytes_per_s for spec in specs if spec), default=0.0)
    fast, slow = computing + copied
    alone = ring.gathered(2 * root, 2)[0]
    return np.array([max(fast, seconds[0] - alone) + alone, slow + seconds[1]])
