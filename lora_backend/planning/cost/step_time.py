"""How long each part of a step takes on each device: work over rates, bytes over links, launches one after the other.

Every figure is a range from the fastest to the slowest that is likely, in seconds. What is not counted in the trace or
told by a maker is a constant here, with where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lora_backend.hardware.gpu_links import PCIE_BYTES_PER_S
from lora_backend.planning.cost.profile import Part, Profile, Unit
from lora_backend.planning.cost.scaling import Vector
from lora_backend.planning.targets import Target

EFFICIENCY = (0.3, 0.6)
"""Of a GPU's dense rate, what training reaches as a rule. An assumption, not measured here."""
CPU_EFFICIENCY = (0.37, 0.95)
"""A step's work per second against that of one large fp32 product on the same cores. 0.52 to 0.61 were measured on an AMD EPYC
(Zen 4) with SmolLM2-135M, rank 16, torch 2.13; the range was then widened until it held every run known: see docs/times.md."""
CPU_FLOPS_PER_CORE = (5e9, 40e9)
"""Of one core in fp32 products, from an old laptop to a server, where nobody measured it. An assumption."""
CPU_HALF_PRECISION = (0.25, 2.0)
"""A CPU's rate in bf16 or fp16 against fp32, without and with instructions for it. An assumption."""
DEQUANTIZED_BYTES = 4.5
"""nf4 reads half a byte and writes and reads two more bytes for each weight that a product needs."""
NF4_BYTES = 0.516
"""A weight in nf4 with its double-quantized scales."""

OPERATIONS = {False: 440, True: 690}
"""Operations that torch starts for a block, forward and backward, with an adapter on each of seven linear layers; with
gradient checkpointing the forward ones again. Counted on a block of Llama's kind under bf16 autocast with torch 2.13 (in
fp32 380 and 590; half of them only change a tensor's shape); an assumption for others."""
OPERATIONS_AT_ENDS = 50
"""Of the embedding, and of the head with the loss; likewise."""
LAUNCH_S = (4e-6, 10e-6)
"""Of one operation on a GPU, in Python and the driver. The GPU works meanwhile, so it is felt where a block's work is
shorter, and at worst on top of it. An assumption."""

DEFAULT_LINK_BYTES_PER_S = 16 * PCIE_BYTES_PER_S[4]
"""Where no link is known: PCIe 4.0 with 16 lanes, what the cards of the catalogue have at least as a rule."""
LINK_SHARE = (0.4, 0.9)
"""Of a link's rate, what a copy reaches: through host memory, or from GPU to GPU. An assumption."""
HOP_S = (20e-6, 100e-6)
"""Until a copy between two devices begins. An assumption."""

LinkSpeed = Callable[[int, int], float]
"""Bytes per second between two devices, by their positions; 0 where it is not known."""
Range = tuple[float, float]
Seconds = NDArray[np.float64]
"""(2, …): the fastest and the slowest."""


@dataclass(frozen=True)
class Cpu:
    """What is known of the host's cores."""

    num_cores: int = 1
    flops_per_core: float | None = None
    """Of one core in fp32 products, as measured on this machine; None: assumed."""


def units_of(profile: Profile) -> list[tuple[Unit, ...]]:
    """What each unit of a placement is made of: with tied weights the first has the head as well."""
    blocks = [(profile.kinds[kind],) for kind in profile.kind_of_block]
    if profile.is_tied:
        return [(profile.embed, profile.head), *blocks]
    return [(profile.embed,), *blocks, (profile.head,)]


def unit_flops(profile: Profile, values: Vector) -> NDArray[np.float64]:
    """(units,): floating-point operations of one forward and backward pass, at the size that `values` stand for."""

    def of(part: Part) -> float:
        return float(part.flops @ values)

    per_kind = {
        id(unit): of(unit.forward) + of(unit.backward) for unit in (profile.embed, profile.head, *profile.kinds)
    }
    return np.array([sum(per_kind[id(unit)] for unit in units) for units in units_of(profile)])


def unit_seconds(profile: Profile, values: Vector, target: Target, cpu: Cpu) -> Seconds | None:
    """(2, units): each unit's forward and backward on one device; None for a card whose rates nobody told us."""
    work = unit_flops(profile, values)
    settings = profile.settings
    if target.is_cpu:
        slow, fast = (rate * cpu.num_cores for rate in _cpu_rates(cpu, settings.precision))
        return np.stack([work / fast, work / slow])
    if target.spec is None:
        return None
    passes = 3 if settings.gradient_checkpointing else 2
    weights = np.array([sum(unit.weights_bytes for unit in units) for units in units_of(profile)])
    moved_bytes = (
        weights * passes if settings.quantization != "nf4" else weights / NF4_BYTES * DEQUANTIZED_BYTES * passes
    )
    moving_s = moved_bytes / target.spec.bandwidth_bytes_per_s
    # fp32 products run on other units, at best half as fast with TF32.
    rate = target.spec.training_flops / (2 if settings.precision == "fp32" else 1)
    slow_s, fast_s = (work / (rate * share) + moving_s for share in EFFICIENCY)
    launches = _launches(profile)
    return np.stack([np.maximum(fast_s, launches * LAUNCH_S[0]), slow_s + launches * LAUNCH_S[1]])


def _launches(profile: Profile) -> NDArray[np.float64]:
    """(units,)"""
    found = np.full(len(units_of(profile)), float(OPERATIONS[profile.settings.gradient_checkpointing]))
    found[0] = OPERATIONS_AT_ENDS * (2 if profile.is_tied else 1)
    if not profile.is_tied:
        found[-1] = OPERATIONS_AT_ENDS
    return found


def _cpu_rates(cpu: Cpu, precision: str) -> Range:
    if cpu.flops_per_core is None:
        low, high = CPU_FLOPS_PER_CORE
    else:
        low, high = (cpu.flops_per_core * share for share in CPU_EFFICIENCY)
    if precision == "fp32":
        return low, high
    return low * CPU_HALF_PRECISION[0], high * CPU_HALF_PRECISION[1]


@dataclass(frozen=True)
class Transfers:
    """What a split sends between its devices in one forward and backward pass."""

    hidden_bytes: float
    """The hidden states between two blocks; as much comes back as their gradient."""
    side_bytes: NDArray[np.float64]
    """(units,): mask and rotary angles, copied for each block that is not where the inputs are."""
    is_tied: bool
    link_speed: LinkSpeed | None = None

    @classmethod
    def of(cls, profile: Profile, values: Vector, link_speed: LinkSpeed | None) -> Transfers:
        """At the size that `values` stand for. Recomputed blocks copy what they need once more."""
        copies = 2 if profile.settings.gradient_checkpointing else 1
        side = [copies * sum(float(unit.side_inputs @ values) for unit in units) for units in units_of(profile)]
        return cls(float(profile.hidden @ values), np.array(side), profile.is_tied, link_speed)

    def seconds(self, size_bytes: float, copies: int, one: int, other: int) -> Seconds:
        """(2,): of so many copies between two devices, together of `size_bytes`."""
        speed = self.link_speed(min(one, other), max(one, other)) if self.link_speed else 0.0
        speed = speed or DEFAULT_LINK_BYTES_PER_S
        fast, slow = (size_bytes / (speed * share) for share in reversed(LINK_SHARE))
        return np.array([fast + copies * HOP_S[0], slow + copies * HOP_S[1]])

    def hop(self, one: int, other: int) -> Seconds:
        """(2,): hidden states over, and their gradient back."""
        return self.seconds(2 * self.hidden_bytes, 2, one, other)

    def back(self, last: int, first: int) -> Seconds:
        """(2,): hidden states that leave the last block go back to a tied head, beside the embedding. Logits stay with their head."""
        return self.hop(last, first) if self.is_tied and last != first else np.zeros(2)

    def side(self, unit: int, device: int, first: int) -> Seconds:
        """(2,): copies for one unit."""
        if device == first or not self.side_bytes[unit]:
            return np.zeros(2)
        return self.seconds(float(self.side_bytes[unit]), 1, first, device)

    def of_assignment(self, assignment: tuple[int, ...]) -> Seconds:
        """(2,): of a whole pass; `assignment` has the device of each unit."""
        first = assignment[0]
        found = self.back(assignment[-1], first)
        for unit in range(1, len(assignment)):
            here, before = assignment[unit], assignment[unit - 1]
            found = found + self.side(unit, here, first) + (self.hop(before, here) if here != before else 0.0)
        return found
