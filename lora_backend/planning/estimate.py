"""How long a step takes and what a run costs: an estimate from FLOPs and bytes over the cards' rates, as a range.

Time of a device = FLOPs / (dense rate × efficiency) + bytes that its weights move / bandwidth; of a layer split the sum
over its devices, for one works while the others wait. FLOPs are counted in the trace; rates are the makers' (catalogue).
Efficiency is where the range comes from: 0.3 to 0.6 of the dense rate is what training reaches as a rule. An
assumption, not measured here.
"""

from __future__ import annotations

from dataclasses import dataclass

from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.plan import DevicePlan, Plan
from lora_backend.planning.profile import Part, Unit
from lora_backend.planning.scaling import monomials

EFFICIENCY = (0.3, 0.6)
CPU_FLOPS_PER_CORE = (5e9, 40e9)
"""Of one core in fp32 matrix products: from an old laptop to a server. An assumption."""
DEQUANTIZED_BYTES = 4.5
"""nf4 reads half a byte and writes and reads two more bytes for each weight that a product needs."""


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


def estimate(plan: Plan, config: TrainingConfig, num_rows: int | None = None, num_cores: int = 1) -> Estimate | None:
    """Of a whole run of `config`; None where a card is used whose rates nobody told us."""
    passes = max((config.target_batch_size or config.batch_size) // config.batch_size, 1)
    fast = slow = 0.0
    for device in plan.used:
        times = _seconds(plan, device, num_cores)
        if times is None:
            return None
        fast, slow = fast + times[0] * passes, slow + times[1] * passes
    steps = num_steps(config, num_rows)
    return Estimate((fast, slow), None if steps is None else (fast * steps, slow * steps), steps)


def num_steps(config: TrainingConfig, num_rows: int | None) -> int | None:
    """Optimizer steps of the whole run; None where neither `max_steps` nor the number of rows is known."""
    if config.max_steps:
        return config.max_steps
    if num_rows is None:
        return None
    rows = num_rows - round(num_rows * config.val_size)
    return max(round(rows * config.num_epochs / (config.target_batch_size or config.batch_size)), 1)


def flops(plan: Plan, units: tuple[int, ...] | None = None) -> float:
    """Floating-point operations of one forward and backward pass, of some units or of all."""
    values = monomials(plan.workload.size)
    profile = plan.profile
    blocks = len(profile.kind_of_block)

    def of(part: Part) -> float:
        return float(part.flops @ values)

    def of_unit(unit: Unit) -> float:
        return of(unit.forward) + of(unit.backward)

    total = 0.0
    for unit in range(len(plan.assignment)) if units is None else units:
        if 0 < unit <= blocks:
            total += of_unit(profile.kinds[profile.kind_of_block[unit - 1]])
        else:
            total += of_unit(profile.embed if unit == 0 else profile.head)
        if unit == 0 and profile.is_tied:
            total += of_unit(profile.head)
    return total


def _seconds(plan: Plan, device: DevicePlan, num_cores: int) -> tuple[float, float] | None:
    work = flops(plan, device.units)
    if device.target.is_cpu:
        low, high = (work / (rate * num_cores) for rate in reversed(CPU_FLOPS_PER_CORE))
        return low, high
    spec = device.target.spec
    if spec is None:
        return None
    passes = 3 if plan.profile.settings.gradient_checkpointing else 2
    moved_bytes = device.breakdown.weights * passes
    if plan.profile.settings.quantization == "nf4":
        moved_bytes = round(device.breakdown.weights / 0.516 * DEQUANTIZED_BYTES * passes)
    moving_s = moved_bytes / spec.bandwidth_bytes_per_s
    # fp32 products run on other units, at best half as fast with TF32.
    rate = spec.training_flops / (2 if plan.profile.settings.precision == "fp32" else 1)
    slow, fast = (work / (rate * share) + moving_s for share in EFFICIENCY)
    return fast, slow
