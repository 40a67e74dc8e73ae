"""The plan of a start: made from what is free now, kept with the attempt, and refused or confirmed where it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.rules.process_keys import OF_SEVERAL
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, PlanError, TooLittleMemoryError, UntrainableError
from lora_backend.hardware.inventory import read_host
from lora_backend.hardware.visible import environment_of
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.planning.advice import Advice, advise, best_first
from lora_backend.planning.cost.step_time import LinkSpeed
from lora_backend.planning.plan import Plan, no_gpu_has_enough
from lora_backend.planning.plan_document import PlanDocument, Strategy
from lora_backend.planning.planner import Planner, options_of
from lora_backend.planning.processes.shared_plan import Shared, num_processes_on
from lora_backend.planning.targets import Target, of_host
from lora_backend.planning.verdict import Verdict
from lora_backend.planning.ways import Way
from lora_backend.preflight.plan_question import Trace, machine_targets, profiles, trains_on_host
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.strategy import (
    as_advice,
    asks_for_several,
    chosen,
    emptied,
    held_by_runs,
    in_processes,
    on_one_device,
    refuse_several,
)
from lora_backend.runs.processes.leases import CPU, holders
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
    reason: Message | None = None
    """Why the GPUs share the work so, where the config leaves it open."""
    offered: Way | None = None
    """Another way to train it, where nothing fits that can be had unasked."""
    unplanned: tuple[Target, ...] = ()
    """Without a plan: the device of each process that the config asks for, by rank."""
    asked: Strategy | None = None
    """Without a plan: how these share the work."""
    num_nodes: int = 1
    """Without a plan: machines that train together."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables with which the trainer sees the GPUs of the plan and no others, the embedding's first."""

    @property
    def attempt(self) -> Attempt:
        """What an attempt's file says of it."""
        return Attempt(
            plan=None if self.plan is None else _document(self.plan),
            fallback=self.fallback,
            note=self.note,
            strategy=self.plan.strategy if self.plan else self.asked,
            strategy_note=self.reason,
            num_processes=self.plan.num_processes if self.plan else max(len(self.unplanned), 1),
            num_nodes=self.plan.num_nodes if self.plan else self.num_nodes,
            device_uuids=[target.uuid for target in self._devices],
            environment=dict(self.environment),
        )

    @property
    def _devices(self) -> list[Target]:
        """In the model's order, or by rank."""
        return list(self.unplanned) if self.plan is None else [device.target for device in self.plan.pipeline]


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
    together: Attempt | None = None,
) -> StartPlan:
    """The plan for a config as it would run now, on the GPUs that its installation's environment shows.

    `only`: on the GPUs with these UUIDs; a `device_map` of the config then names them by their places in it. `seen`: in
    this very process, which can hide no GPU from itself any more; it gives those that are shown their numbers here. `together`:
    the start whose several processes have begun already, as they were settled.

    A `device_map` of the config is scored as it is; `use_balanced_device_map` and `strategy: layer_split` place the layers;
    `single` has the model on one device, `ddp` and `fsdp` one process a GPU, and `auto` is the fastest of them that fits.
    Raises `PlanError` for a map that names devices which are not there (any more), and for processes that cannot be had;
    `TooLittleMemoryError` where `force_balance` forbids to fall back, `ModelError` for blocks outside of the GPUs,
    `UntrainableError` where the model cannot be trained as the config says.
    """
    config, is_alone = resolved.config, seen is not None and together is None
    if together is not None:
        settled = {name: getattr(together, name) for name in ("strategy", "num_processes", "num_nodes")}
        config = config.model_copy(update=settled)
    elif is_alone:
        refuse_several(config)
    targets, links, _ = machine_targets(resolved.installation, only)
    if only is not None and isinstance(config.device_map, dict):
        targets = tuple(replace(target, device=place) for place, target in enumerate(targets))
    if seen is not None:
        targets, links = seen(targets), None
    planned = _plan(resolved, config, trace, targets, links, is_alone=is_alone)
    if all(target.uuid is None for target in targets):
        return planned
    needed = planned.unplanned or targets if planned.plan is None else _needed(planned.plan, config)
    shown = targets if seen is not None else needed
    return replace(planned, environment=environment_of([target.uuid for target in shown if target.uuid]))


def _needed(plan: Plan, config: TrainingConfig) -> list[Target]:
    """The devices that the plan uses in the model's order, then what a map of the config names beside them."""
    used = [device.target for device in plan.pipeline]
    named = set(config.device_map.values()) if isinstance(config.device_map, dict) else set()
    others = [device.target for device in plan.devices if not device.units]
    return [*used, *(target for target in others if named & {target.device, f"cuda:{target.device}"})]


def _plan(
    resolved: ResolvedConfig,
    config: TrainingConfig,
    trace: Trace,
    targets: tuple[Target, ...],
    links: LinkSpeed | None,
    *,
    is_alone: bool,
) -> StartPlan:
    """`is_alone`: in this very process, which cannot become several."""
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
        planner = Planner(source, targets, links, host=_host_beside(targets, resolved.installation))
        fallback = None
        if config.is_balanced:
            try:
                return StartPlan(planner.plan(_balanced(config, targets)), planner)
            except TooLittleMemoryError as error:
                if config.force_balance:
                    raise
                fallback = error.message
        if isinstance(config.device_map, dict):
            return StartPlan(planner.plan(config), planner)
        if config.strategy != "layer_split" and not config.is_placed:
            return _settled(planner, config, resolved.installation, is_alone=is_alone)
        plan = planner.score(config, (0,) * planner.profile(config).num_units)
    except UntrainableError:
        raise
    except ModelError as error:
        if asks_for_several(config):
            strategy: Shared = "fsdp" if config.strategy == "fsdp" else "ddp"
            devices = _of_each_process(config, strategy, targets)
            return StartPlan(None, note=error.message, unplanned=devices, asked=strategy, num_nodes=config.num_nodes)
        return StartPlan(None, note=error.message)
    return StartPlan(plan, planner, fallback)


def _of_each_process(config: TrainingConfig, strategy: Shared, targets: Sequence[Target]) -> tuple[Target, ...]:
    """The devices that a config asks for which cannot be planned, by rank: the first ones."""
    count = num_processes_on(strategy, config, targets, options_of(config))
    return tuple(targets[:1]) * count if targets[0].is_cpu else tuple(targets[:count])


def _settled(planner: Planner, config: TrainingConfig, installation: Installation, *, is_alone: bool) -> StartPlan:
    """A start whose config does not say where the model lies."""
    held = held_by_runs(planner.targets, installation)
    if config.strategy in OF_SEVERAL:
        found = in_processes(planner, config, held)
    elif config.strategy == "single":
        found = on_one_device(planner, config, held)
    else:
        asked = config.model_copy(update={"num_processes": 1}) if is_alone else config
        found = chosen(planner, asked, held, lambda plan: in_turn(plan, installation))
    return StartPlan(found.plan, planner, reason=found.reason, offered=found.offered)


def in_turn(plan: Plan, installation: Installation) -> Plan:
    """A plan as it will be when its turn has come: where runs of ours hold its devices, their memory is free then."""
    keys = [device.target.uuid for device in plan.pipeline if device.target.uuid] or [CPU]
    return emptied(plan) if holders(installation.leases, keys) else plan


def _host_beside(targets: Sequence[Target], installation: Installation) -> Target | None:
    """The host's memory, where there are several GPUs whose weights could go there."""
    return of_host(read_host(installation.workspace)) if len(targets) > 1 else None


def advice_for(start: StartPlan, config: TrainingConfig) -> list[Advice]:
    """What would make the start need less memory on the devices that it has; empty where there is no plan.

    A `device_map` that the config names stays while other keys change, so what they save is counted on it.
    """
    if start.plan is None or start.planner is None:
        return []
    offered = [as_advice(start.offered, start.plan)] if start.offered is not None else []
    if start.plan.is_shared:
        shared = start.planner.on(
            [device.target for device in start.plan.devices if not device.target.is_cpu] or start.planner.targets
        )
        asked = config.model_copy(update={"strategy": start.plan.strategy, "num_processes": start.plan.num_processes})
        return [*offered, *best_first(advise(shared, asked, start.plan))]
    one_device = replace(start.planner, targets=tuple(device.target for device in start.plan.used))
    placed = start.plan.assignment if isinstance(config.device_map, dict) else None
    is_spread = config.is_balanced or start.plan.strategy == "layer_split"
    advised = start.planner if is_spread or placed is not None else one_device
    found = best_first(advise(advised, config.model_copy(update={"device_map": None}), start.plan, placed=placed))
    return [*offered, *(replace(one, change=MAP_ANEW) if one.code == "best_placement" else one for one in found)]


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
