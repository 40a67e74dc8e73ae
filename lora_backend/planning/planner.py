"""From a training config and devices to a plan: the one way in for page, command line, launch and Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.config.patch import Patch
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.step_time import LinkSpeed
from lora_backend.planning.plan import Options, Plan, assignment_of, make_plan, score_plan
from lora_backend.planning.targets import Target

ProfileSource = Callable[[TrainingConfig], Profile]
"""The profile of one model for what a config asks of it; `precision` in the config is resolved."""
BF16_CAPABILITY = (8, 0)
"""CUDA compute capability from which a card computes bf16 (NVIDIA's Ampere)."""


class NotTracedError(FlightdeckError):
    """What it costs is not known, and nobody has asked for its trace."""

    code = "not_traced"


@dataclass(frozen=True)
class Planner:
    """Plans one model on one set of devices."""

    profile_of: ProfileSource
    targets: tuple[Target, ...]
    link_speed: LinkSpeed | None = None

    def plan(self, config: TrainingConfig, options: Options | None = None) -> Plan:
        """The best placement for `config`; a `device_map` that it names is scored as it is.

        Raises `DeviceError` or `ModelError`.
        """
        config = self.resolved(config)
        profile = self.profile_of(config)
        if isinstance(config.device_map, dict):
            return self.score(config, assignment_of(profile, config.device_map, self.targets))
        return make_plan(
            profile, workload_of(config, self.targets), self.targets, options or options_of(config), self.link_speed
        )

    def score(self, config: TrainingConfig, assignment: Sequence[int]) -> Plan:
        """A placement as it is: the device of each unit, by its position in the targets."""
        config = self.resolved(config)
        return score_plan(Memory(self.profile_of(config), workload_of(config, self.targets)), self.targets, assignment)

    def resolved(self, config: TrainingConfig) -> TrainingConfig:
        """`config` with the precision that `auto` means on these devices."""
        return config.model_copy(update={"precision": precision_on(config.precision, self.targets)})


def precision_on(word: str, targets: Sequence[Target]) -> str:
    """`auto` → bf16 where every known card computes it, else fp16; on the CPU bf16 where its cores compute it, else fp32,
    as the trainer takes it. Other words stand for themselves."""
    if word != "auto":
        return word
    if all(target.is_cpu for target in targets):
        return "bf16" if all(target.computes_bf16 for target in targets) else "fp32"
    old = [target.spec for target in targets if target.spec and target.spec.compute_capability < BF16_CAPABILITY]
    return "fp16" if old else "bf16"


def workload_of(config: TrainingConfig, targets: Sequence[Target]) -> Workload:
    """What a profile leaves open, as the config says it: the longest rows that it lets through, every batch full."""
    return Workload(
        size=Size(config.batch_size, config.max_length, config.r),
        optim=config.optim,
        accumulates=(config.target_batch_size or config.batch_size) > config.batch_size,
        on_gpu=not all(target.is_cpu for target in targets),
    )


def options_of(config: TrainingConfig) -> Options:
    """The config's own keys."""
    return Options(force_balance=config.force_balance, min_memory_gb=float(config.min_memory_gb))


def with_changes(config: TrainingConfig, **changes: Any) -> TrainingConfig:
    """`config` with some keys changed, checked again."""
    return TrainingConfig.model_validate(Patch(changes).applied_to(config.model_dump()))
