"""How the GPUs of a start share the work: as its config says, else the fastest way that fits what is free now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from lora_backend.config.rules.process_keys import OF_SEVERAL
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import PlanError
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.planning.advice import Advice
from lora_backend.planning.fastest_way import fastest_that_fits
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import Planner
from lora_backend.planning.processes.dealt import passes_of
from lora_backend.planning.targets import Target
from lora_backend.planning.ways import Way, plan_single
from lora_backend.runs.processes.leases import holders


@dataclass(frozen=True)
class Settled:
    """How one start trains."""

    plan: Plan
    reason: Message | None = None
    """Why it is that one, where the config leaves it open."""
    offered: Way | None = None
    """Another way, which takes a key of the config, where nothing fits without."""


def asks_for_several(config: TrainingConfig) -> bool:
    """Whether the config itself asks for several processes; `auto` may choose them unasked."""
    asked = (config.num_processes or 1) * config.num_nodes > 1
    return config.strategy in OF_SEVERAL or (config.strategy == "auto" and asked and not config.is_placed)


def refuse_several(config: TrainingConfig) -> None:
    """Raise `PlanError` in a process that runs already, and cannot become several."""
    if not asks_for_several(config):
        return
    key = "strategy" if config.strategy in OF_SEVERAL else "num_processes" if config.num_processes else "num_nodes"
    raise PlanError(
        N_(
            "This process trains by itself, so `{key}: {value}` is not possible here. Start the run with `flightdeck runs start` or from the page, or remove `{key}`."
        ),
        key=key,
        value=getattr(config, key),
    )


def held_by_runs(targets: Sequence[Target], installation: Installation) -> set[str]:
    """UUIDs of those that a run of this workspace holds."""
    keys = [target.uuid for target in targets if target.uuid]
    return {holder.key for holder in holders(installation.leases, keys)}


def in_processes(planner: Planner, config: TrainingConfig, held: Collection[str]) -> Settled:
    """What a config asks for that names ddp or fsdp. It waits for GPUs that are `held` only where too few others are free.

    Raises `PlanError` where they cannot be had here, `UntrainableError` for what does not train so.
    """
    free = [target for target in planner.targets if target.uuid not in held]
    here = planner.on(free) if len(free) >= max(config.num_processes or 2, 2) else planner
    return Settled(here.plan(config))


def on_one_device(planner: Planner, config: TrainingConfig, held: Collection[str]) -> Settled:
    """What `strategy: single` comes to: the device where it fits best, of those that are free."""
    places = _places(planner, config.model_copy(update={"num_processes": 1}), held)
    plans = [plan_single(here, config, here.targets) for here in places]
    return Settled(next((plan for plan in plans if plan.fits), plans[-1]))


def chosen(planner: Planner, config: TrainingConfig, held: Collection[str], in_turn: Callable[[Plan], Plan]) -> Settled:
    """What `strategy: auto` comes to: the fastest that fits on the GPUs that are free, else when those that runs of ours hold
    are free again. Where a step has one micro-batch there is nothing to share among processes, so the model goes to the
    first device as long as it fits there. `in_turn` gives a plan as it will be when its turn has come.
    """
    is_asked = asks_for_several(config)
    first = planner.score(config, (0,) * planner.profile(config).num_units)
    if not is_asked and (len(planner.targets) == 1 or (passes_of(config) == 1 and in_turn(first).fits)):
        return Settled(first)
    offered = None
    for here in _places(planner, config, held):
        choice = fastest_that_fits(here, config, here.targets)
        way = choice.way
        if way.plan is None or not way.plan.fits:
            continue
        if way.code == "fsdp_offload":  # which the config has to ask for: the trainer reads it there
            offered = way
        elif way.code == "single" and len(here.targets) < len(planner.targets):
            return Settled(way.plan, Message(N_("One GPU: other runs are using the rest.")))
        else:
            return Settled(way.plan, _with_note(choice.reason, way))
    if is_asked:
        return Settled(planner.plan(config.model_copy(update={"strategy": "ddp"})))
    return Settled(first, offered=offered)


def _with_note(reason: Message, way: Way) -> Message:
    """And which of unequal GPUs sets the pace."""
    return reason if way.note is None else Message("{reason} {note}", {"reason": reason, "note": way.note})


def _places(planner: Planner, config: TrainingConfig, held: Collection[str]) -> list[Planner]:
    """The GPUs that are free, if there are enough, then all of them as they are without runs of ours."""
    free = [target for target in planner.targets if target.uuid not in held]
    some = [planner.on(free)] if held and len(free) >= max(config.num_processes or 1, 1) else []
    whole = [replace(one, held_bytes=0) if one.uuid in held else one for one in planner.targets]
    return [*some, replace(planner, targets=tuple(whole))]


def as_advice(way: Way, now: Plan) -> Advice:
    """A way that the config has to ask for, among what would make it fit; `now`: the plan that does not."""
    assert way.plan is not None
    saves = now.bottleneck.breakdown.total - way.plan.bottleneck.breakdown.total
    price = Message(N_("weights are copied from host memory in every step, which takes time"))
    return Advice(way.code, way.patch, saves, None, way.plan.fits, price, way.plan)


def emptied(plan: Plan) -> Plan:
    """A plan as it will be when whoever holds memory of its devices has let it go."""
    return replace(
        plan,
        devices=tuple(replace(one, target=replace(one.target, held_bytes=0)) for one in plan.devices),
    )
