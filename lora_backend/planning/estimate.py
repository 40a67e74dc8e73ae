"""How long a step takes and what a run costs: an estimate from the trace's FLOPs and bytes over rates, as a range.

Of a layer split the devices' times are summed, for one works while the others wait, and what goes between them is added.
Of several processes the slowest device's counts (`processes/step_seconds.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.cost.row_lengths import RowLengths, Sharing
from lora_backend.planning.cost.scaling import Vector
from lora_backend.planning.cost.shards import memory_of
from lora_backend.planning.cost.step_time import Cpu, LinkSpeed, Seconds, Transfers, unit_flops, unit_seconds
from lora_backend.planning.plan import Plan
from lora_backend.planning.processes.dealt import passes_of
from lora_backend.planning.processes.step_seconds import shared_step_seconds


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
    if plan.is_shared:
        found = shared_step_seconds(plan, config, values, conditions.link_speed, conditions.cpu)
    else:
        found = _split_step_seconds(plan, config, values, conditions)
    if found is None:
        return None
    fast, slow = (float(seconds) for seconds in found)
    steps = num_steps(config, conditions.rows, conditions.lengths if sharing_of(plan, config) == "packed" else None)
    return Estimate((fast, slow), None if steps is None else (fast * steps, slow * steps), steps)


def _split_step_seconds(plan: Plan, config: TrainingConfig, values: Vector, conditions: Conditions) -> Seconds | None:
    """(2,): of one process, whose devices work one after the other."""
    found = Transfers.of(plan.profile, values, conditions.link_speed).of_assignment(plan.assignment)
    for device in plan.used:
        times = unit_seconds(plan.profile, values, device.target, conditions.cpu)
        if times is None:
            return None
        found = found + times[:, list(device.units)].sum(axis=1)
    return np.asarray(passes_of(config) * found)


def sharing_of(plan: Plan, config: TrainingConfig) -> Sharing:
    """How rows share a pass of this model: as `batching` says, padded where the model cannot train otherwise."""
    if plan.profile.taken.batching == "padded":
        return "padded"
    return "packed" if config.batching == "packed" else "flat"


def values_of(plan: Plan, config: TrainingConfig, conditions: Conditions) -> Vector:
    """The monomials of a batch: of the data's own rows where their lengths are known, else of the planned size."""
    if conditions.lengths is None:
        return plan.profile.monomials(plan.workload.size)
    return conditions.lengths.mean_monomials(
        plan.profile, sharing_of(plan, config), config.batch_size, config.max_length, config.r
    )


@dataclass(frozen=True)
class MeanBatch:
    """What the fullest device holds with a batch of the data's own mean length; the plan is for the longest."""

    tokens: float
    """That go through the model in a pass, padding with them."""
    total_bytes: int
    """Planned as the longest batch is, overhead with it."""


def mean_batch(plan: Plan, config: TrainingConfig, conditions: Conditions) -> MeanBatch | None:
    """None where the lengths of the data's rows are not known, or where the fullest device only keeps weights (offloaded)."""
    if conditions.lengths is None or not plan.bottleneck.units:
        return None
    memory = memory_of(plan.profile, plan.workload, values_of(plan, config, conditions))
    total_bytes = memory.device(plan.bottleneck.units).total
    crowd = plan.num_processes if plan.bottleneck.target.is_cpu else 1
    return MeanBatch(tokens_in_pass(plan, config, conditions), crowd * total_bytes)


def tokens_in_pass(plan: Plan, config: TrainingConfig, conditions: Conditions) -> float:
    """Tokens that go through the model in a pass on average, padding with them; every row full where lengths are not known."""
    if conditions.lengths is None:
        return float(config.batch_size * config.max_length)
    return conditions.lengths.mean_batch(sharing_of(plan, config), config.batch_size, config.max_length)


def num_steps(config: TrainingConfig, num_rows: int | None, packed: RowLengths | None = None) -> int | None:
    """Optimizer steps of the whole run, as transformers' Trainer counts them (the last batch of an epoch may be short).

    `packed`: the rows' lengths, where lines of `max_length` tokens are filled with them. None where neither `max_steps` nor the number of rows is known, nor, of packed ones, their lengths.
    """
    if config.max_steps:
        return config.max_steps
    if num_rows is None or (config.batching == "packed" and packed is None):
        return None
    rows = num_rows - min(max(round(num_rows * config.val_size), 1), num_rows - 1) if config.val_size else num_rows
    if packed is not None:
        rows = math.ceil(rows / packed.rows_in_line(config.max_length))
    batches = math.ceil(rows / config.batch_size)
    return max(math.ceil(config.num_epochs * max(math.ceil(batches / passes_of(config)), 1)), 1)


def flops(plan: Plan, units: tuple[int, ...] | None = None) -> float:
    """Floating-point operations of one forward and backward pass, of some units or of all."""
    found = unit_flops(plan.profile, plan.profile.monomials(plan.workload.size))
    return float(np.sum(found if units is None else found[list(units)]))
