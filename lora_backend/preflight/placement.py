"""The plan of a start: made from what is free now, kept with the attempt, and refused or confirmed where it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, PlanError, TooLittleMemoryError, UntrainableError
from lora_backend.hardware.inventory import read_host
from lora_backend.hardware.visible import environment_of
from lora_backend.i18n import N_, Message
from lora_backend.planning.advice import Advice, advise, best_first
from lora_backend.planning.cost.step_time import LinkSpeed
from lora_backend.planning.plan import Plan, no_gpu_has_enough
from lora_backend.planning.plan_document import PlanDocument
from lora_backend.planning.planner import Planner
from lora_backend.planning.targets import Target, of_host
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.plan_question import Trace, machine_targets, profiles, trains_on_host
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.record.attempts import Attempt


@dataclass(frozen=True)
class StartPlan:
    """What one start is expected to hold, and where."""

    plan: Plan | None
    planner: Planner | None = None
    fallback: Message | None = None
    """Why the balanced map that was asked for is not used."""
    note: Message | None = None
    """Why there is no plan, where there is none."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables with which the trainer sees the GPUs of the plan and no others, the embedding's first."""

    @property
    def attempt(self) -> Attempt:
        """What an attempt's file says of it."""
        return Attempt(
            plan=None if self.plan is None else _document(self.plan),
            fallback=self.fallback,
            note=self.note,
            device_uuids=[device.target.uuid for device in self.plan.pipeline] if self.plan else [],
            environment=dict(self.environment),
        )


MAP_ANEW = Patch({"device_map": DELETE, "use_balanced_device_map": True})
"""Changes that have the map made for the devices that are there when the run starts (None takes a key out)."""


class PlanDoubtError(PlanError):
    """The plan does not fit, or not beyond doubt; the run can be started all the same by who accepts that."""

    verdict: ClassVar[Verdict]

    def __init__(self, said: Message, advise: Callable[[], Sequence[Advice]] = tuple) -> None:
        super().__init__(said.template, **said.values)
        self._advise = advise

    @cached_property
    def advice(self) -> Sequence[Advice]:
        """What would take the doubt away; made when it is asked for, because that may need traces."""
        return self._advise()


class DoesNotFitError(PlanDoubtError):
    """The run would need more memory than is free."""

    verdict = "over"


class TightError(PlanDoubtError):
    """The run fits, but not beyond doubt: a person is asked once."""

    verdict = "tight"


def plan_start(
    resolved: ResolvedConfig,
    trace: Trace,
    *,
    only: Sequence[str] | None = None,
    seen: Callable[[tuple[Target, ...]], tuple[Target, ...]] | None = None,
) -> StartPlan:
    """The plan for a config as it would run now, on the GPUs that its installation's environment shows.

    `only`: on the GPUs with these UUIDs; a `device_map` of the config then names them by their places in it. `seen`: in
    this very process, which can hide no GPU from itself any more; it gives those that are shown their numbers here.

    A `device_map` of the config is scored as it is; `use_balanced_device_map` places the layers; without either the
    model goes to one device. Raises `PlanError` for a map that names devices which are not there (any more), and
    `TooLittleMemoryError` where `force_balance` forbids to fall back, `ModelError` for blocks outside of the GPUs,
    `UntrainableError` where the model cannot be trained as the config says.
    """
    config = resolved.config
    targets, links, _ = machine_targets(resolved.installation, only)
    if only is not None and isinstance(config.device_map, dict):
        targets = tuple(replace(target, device=place) for place, target in enumerate(targets))
    if seen is not None:
        targets, links = seen(targets), None
    planned = _plan(resolved, trace, targets, links)
    if all(target.uuid is None for target in targets):
        return planned
    shown = targets if seen is not None or planned.plan is None else _needed(planned.plan, config)
    return replace(planned, environment=environment_of([target.uuid for target in shown if target.uuid]))


def _needed(plan: Plan, config: TrainingConfig) -> list[Target]:
    """The devices that the plan uses in the model's order, then what a map of the config names beside them."""
    used = [device.target for device in plan.pipeline]
    named = set(config.device_map.values()) if isinstance(config.device_map, dict) else set()
    others = [device.target for device in plan.devices if not device.units]
    return [*used, *(target for target in others if named & {target.device, f"cuda:{target.device}"})]


def _plan(
    resolved: ResolvedConfig,
    trace: Trace,
    targets: tuple[Target, ...],
    links: LinkSpeed | None,
) -> StartPlan:
    config = resolved.config
    if isinstance(config.device_map, dict):
        refuse_host_memory({str(place) for place in config.device_map.values()})
    if trains_on_host(config):
        targets, links = (of_host(read_host(resolved.installation.workspace)),), None
    elif isinstance(config.device_map, str) and not targets[0].is_cpu:
        word = Message(
            N_("`device_map: {word}` leaves the placement to accelerate, so there is no plan."),
            {"word": config.device_map},
        )
        return StartPlan(None, note=word)
    try:
        source = profiles(resolved.config_json, trace, resolved.installation)
        planner = Planner(source, targets, links)
        fallback = None
        if config.use_balanced_device_map and config.device_map is None:
            try:
                return StartPlan(planner.plan(_balanced(config, targets)), planner)
            except TooLittleMemoryError as error:
                if config.force_balance:
                    raise
                fallback = error.message
        if isinstance(config.device_map, dict):
            return StartPlan(planner.plan(config), planner)
        plan = planner.score(config, (0,) * planner.profile_of(planner.resolved(config)).num_units)
    except UntrainableError:
        raise
    except ModelError as error:
        return StartPlan(None, note=error.message)
    return StartPlan(plan, planner, fallback)


def advice_for(start: StartPlan, config: TrainingConfig) -> list[Advice]:
    """What would make the start need less memory on the devices that it has; empty where there is no plan.

    A `device_map` that the config names stays while other keys change, so what they save is counted on it.
    """
    if start.plan is None or start.planner is None:
        return []
    one_device = replace(start.planner, targets=tuple(device.target for device in start.plan.used))
    placed = start.plan.assignment if isinstance(config.device_map, dict) else None
    advised = start.planner if config.use_balanced_device_map or placed is not None else one_device
    found = best_first(advise(advised, config.model_copy(update={"device_map": None}), start.plan, placed=placed))
    return [replace(one, change=MAP_ANEW) if one.code == "best_placement" else one for one in found]


def _balanced(config: TrainingConfig, targets: tuple[Target, ...]) -> TrainingConfig:
    """Without any GPU the CPU is what there is, unless it is excluded: then the planner refuses."""
    if all(target.is_cpu for target in targets) and config.exclude_cpu:
        raise no_gpu_has_enough(config.min_memory_gb)
    return config


def refuse_host_memory(places: set[str]) -> None:
    """Raise `ModelError` for a placement with some modules in host memory or on disk: adapters there get no gradient,
    and nothing says so. Everything on the CPU is a different matter."""
    if "disk" in places or ("cpu" in places and len(places) > 1):
        raise ModelError(
            N_(
                "Some blocks would live in host memory or on disk ({places}), where an adapter does not train. Take a smaller model or more GPUs, or set `device_map: cpu`."
            ),
            places=", ".join(sorted(places)),
        )


def _document(plan: Plan) -> PlanDocument:
    found, size = plan.document(), plan.workload.size
    found.method, found.expected_error = plan.profile.method, plan.profile.expected_error
    found.precision = plan.profile.settings.precision
    found.rows, found.tokens = size.rows, size.tokens
    found.assignment = list(plan.assignment)
    return found
