"""How long a step takes and what a run costs: an estimate from the trace's FLOPs and bytes over rates, as a range.

Of a layer split the devices' times are summed, for one works while the others wait, and what goes between them is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.cost.row_lengths import RowLengths
from lora_backend.planning.cost.scaling import Vector
from lora_backend.planning.cost.step_time import Cpu, LinkSpeed, Transfers, unit_flops, unit_seconds
from lora_backend.planning.plan import Plan


@dataclass(frozen=True)
class Conditions:
    """What a time depends on beside plan and config."""

    link_speed: LinkSpeed | None = None
    """None: every link is as assumed."""
    cpu: Cpu = field(default_factory=Cpu)
    lengths: RowLengths | None = None
    """Of the data's rows; None: every row is taken as `max_length` tokens long."""
    num_rows: int | None = None
    """Rows of the data, where they are told and not counted."""

    @property
    def rows(self) -> int | None:
        """Rows of the data, if anybody knows."""
        return self.num_rows or (self.lengths.num_rows if self.lengths else None)


@dataclass(frozen=True)
class Estimate:
    """Seconds, from the fastest to the slowest that is likely."""

    step_s: tuple[float, float]
    total_s: tuple[float, float] | None
    """None where the number of steps is not known."""
    num_steps: int | None

    def cost(self, price_per_gpu_hour: float, num_gpus: int) -> tuple[float, float] | None:
        """In the price's currency, for all GPUs that are used, the whole run long."""
        if self.total_s is None:
            return None
        low, high = (seconds / 3600 * price_per_gpu_hour * num_gpus for seconds in self.total_s)
        return low, high


def estimate(plan: Plan, config: TrainingConfig, conditions: Conditions | None = None) -> Estimate | None:
    """Of a whole run of `config`; None where a card is used whose rates nobody told us."""
    conditions = conditions or Conditions()
    values = values_of(plan, config, conditions)
    found = Transfers.of(plan.profile, values, conditions.link_speed).of_assignment(plan.assignment)
    for device in plan.used:
        times = unit_seconds(plan.profile, values, device.target, conditions.cpu)
        if times is None:
            return None
        found = found + times[:, list(device.units)].sum(axis=1)
    fast, slow = (float(seconds) * passes_of(config) for seconds in found)
    steps = num_steps(config, conditions.rows)
    return Estimate((fast, slow), None if steps is None else (fast * steps, slow * steps), steps)


def values_of(plan: Plan, config: TrainingConfig, conditions: Conditions) -> Vector:
    """The monomials of a batch: of the data's own rows where their lengths are known, else of the planned size."""
    if conditions.lengths is None:
        return plan.profile.monomials(plan.workload.size)
    return conditions.lengths.mean_monomials(plan.profile, config.batch_size, config.max_length, config.r)


def passes_of(config: TrainingConfig) -> int:
    """Forward and backward passes in a step."""
    return max((config.target_batch_size or config.batch_size) // config.batch_size, 1)


def num_steps(config: TrainingConfig, num_rows: int | None) -> int | None:
    """Optimizer steps of the whole run, as transformers' Trainer counts them (the last batch of an epoch may be short).

    None where neither `max_steps` nor the number of rows is known.
    """
    if config.max_steps:
        return config.max_steps
    if num_rows is None:
        return None
    rows = num_rows - min(max(round(num_rows * config.val_size), 1), num_rows - 1) if config.val_size else num_rows
    batches = math.ceil(rows / config.batch_size)
    return max(math.ceil(config.num_epochs * max(math.ceil(batches / passes_of(config)), 1)), 1)


def flops(plan: Plan, units: tuple[int, ...] | None = None) -> float:
    """Floating-point operations of one forward and backward pass, of some units or of all."""
    found = unit_flops(plan.profile, plan.profile.monomials(plan.workload.size))
    return float(np.sum(found if units is None else found[list(units)]))
