"""From a training config and devices to a plan: the one way in for page, command line, launch and Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lora_backend.config.patch import Patch
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError, UntrainableError
from lora_backend.i18n import N_, Message
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.step_time import LinkSpeed
from lora_backend.planning.plan import Options, Plan, assignment_of, make_plan, score_plan
from lora_backend.planning.processes.shared_plan import make_shared_plan
from lora_backend.planning.targets import Target

ProfileSource = Callable[[TrainingConfig], Profile]
"""The profile of one model for what a config asks of it; `precision` in the config is resolved."""
BF16_CAPABILITY = (8, 0)
"""CUDA compute capability from which a card computes bf16 (NVIDIA's Ampere)."""
FLAT_CAPABILITY = (8, 0)
"""From which on a card has kernels that attend to rows of several lengths in one call (torch's and FlashAttention's)."""


class NotTracedError(FlightdeckError):
    """What it costs is not known, and nobody has asked for its trace."""

    code = "not_traced"


@dataclass(frozen=True)
class Planner:
    """Plans one model on one set of devices."""

    profile_of: ProfileSource
    targets: tuple[Target, ...]
    link_speed: LinkSpeed | None = None
    host: Target | None = None
    """The host's memory beside GPUs, where `fsdp_offload_params` puts weights; None: nobody knows how much there is."""

    def plan(self, config: TrainingConfig, options: Options | None = None) -> Plan:
        """The best placement for `config`; a `device_map` that it names is scored as it is. With `strategy: ddp` or `fsdp`
        what each of its processes holds; `auto` is settled before (`fastest_that_fits`).

        Raises `DeviceError` or `ModelError`.
        """
        profile, config = self.profile(config), self.resolved(config)
        if config.strategy in ("ddp", "fsdp"):
            workload = workload_of(config, self.targets)
            options = options or options_of(config)
            return make_shared_plan(
                config.strategy, profile, config, workload, self.targets, options=options, host=self.host
            )
        if isinstance(config.device_map, dict):
            return self.score(config, assignment_of(profile, config.device_map, self.targets))
        return make_plan(
            profile, workload_of(config, self.targets), self.targets, options or options_of(config), self.link_speed
        )

    def score(self, config: TrainingConfig, assignment: Sequence[int]) -> Plan:
        """A placement as it is: the device of each unit, by its position in the targets."""
        memory = Memory(self.profile(config), workload_of(self.resolved(config), self.targets))
        return score_plan(memory, self.targets, assignment)

    def on(self, targets: Sequence[Target]) -> Planner:
        """The same for some of the targets, or for others, whose links are not known."""
        place = {target: position for position, target in enumerate(self.targets)}
        chosen, speed = tuple(targets), self.link_speed
        if speed is None or not all(target in place for target in chosen):
            return replace(self, targets=chosen, link_speed=None)
        places = [place[target] for target in chosen]
        return replace(self, targets=chosen, link_speed=lambda a, b: speed(*sorted((places[a], places[b]))))

    def profile(self, config: TrainingConfig) -> Profile:
        """Of the step as these devices take it. Raises `UntrainableError` where `batching` asks for rows without padding and
        they, or the model, cannot do so."""
        found = self.profile_of(self.resolved(config))
        why = found.taken.why_padded_on_gpu
        if why is not None and found.taken.batching == "flat" and not all(target.is_cpu for target in self.targets):
            found = self.profile_of(self.resolved(config.model_copy(update={"batching": "padded"})))
            found = replace(found, taken=replace(found.taken, why_padded=why))
        if config.batching in ("flat", "packed") and found.taken.batching == "padded":
            reason = found.taken.why_padded or why_padded_on(found.settings.precision, self.targets)
            raise UntrainableError(
                N_("`batching: {way}` is not possible here. {reason} Set `batching: padded`."),
                about="batching",
                way=config.batching,
                reason=reason,
            )
        return found

    def resolved(self, config: TrainingConfig) -> TrainingConfig:
        """`config` with the precision that `auto` means on these devices, and the batching that they can do in it."""
        precision = precision_on(config.precision, self.targets)
        is_padded = why_padded_on(precision, self.targets) is not None
        batching = {"batching": "padded"} if is_padded else {}
        return config.model_copy(update={"precision": precision, **batching})


def precision_on(word: str, targets: Sequence[Target]) -> str:
    """`auto` → bf16 where every known card computes it, else fp16; on the CPU bf16 where its cores compute it, else fp32,
    as the trainer takes it. Other words stand for themselves."""
    if word != "auto":
        return word
    if all(target.is_cpu for target in targets):
        return "bf16" if all(target.computes_bf16 for target in targets) else "fp32"
    old = [target.spec for target in targets if target.spec and target.spec.compute_capability < BF16_CAPABILITY]
    return "fp16" if old else "bf16"


def why_padded_on(precision: str, targets: Sequence[Target]) -> Message | None:
    """Why rows are padded on these devices whatever `batching` says; None where they need not be."""
    gpus = [target for target in targets if not target.is_cpu]
    if gpus and precision == "fp32":
        return Message(N_("Rows are padded: a GPU's attention without padding needs `precision: bf16` or `fp16`."))
    old = [gpu for gpu in gpus if gpu.spec and gpu.spec.compute_capability < FLAT_CAPABILITY]
    if old:
        return Message(N_("Rows are padded: {name} has no attention without padding."), {"name": old[0].label})
    return None


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
