"""Every way to train a config on some devices, side by side, and the fastest of them that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import DeviceError, FlightdeckError, PlanError, WorkerError
from lora_backend.i18n import N_, Message, Plural
from lora_backend.planning.estimate import Conditions, Estimate, estimate, num_steps, sharing_of, tokens_in_pass
from lora_backend.planning.plan import Plan, usable_targets
from lora_backend.planning.planner import Planner, options_of, with_changes
from lora_backend.planning.price import Price
from lora_backend.planning.processes.dealt import passes_of
from lora_backend.planning.processes.step_seconds import slowest_note
from lora_backend.planning.targets import Target
from lora_backend.planning.verdict import ORDER, Verdict

WayCode = Literal["single", "single_4bit", "layer_split", "ddp", "fsdp", "fsdp_offload"]
WAYS: tuple[WayCode, ...] = ("single", "single_4bit", "layer_split", "ddp", "fsdp", "fsdp_offload")
"""In the order in which they are shown."""


@dataclass(frozen=True)
class Way:
    """One way to train a config, and what comes of it."""

    code: WayCode
    patch: Patch
    """What makes the config train so."""
    plan: Plan | None
    """None where it cannot be done here; `reason` says why."""
    reason: Message | None = None
    time: Estimate | None = None
    """None where a card's rates are not known."""
    tokens_per_s: tuple[float, float] | None = None
    """That go through the model in all processes together, padding with them; from the slowest to the fastest that is likely."""
    epoch_s: tuple[float, float] | None = None
    """Once through the data; None where nobody knows how many rows there are."""
    epoch_cost: tuple[float, float] | None = None
    """Of all GPUs in use, in the price's currency; None where no price is known either."""
    note: Message | None = None
    """What must be known beside the figures: that one of the GPUs sets the pace."""

    @property
    def verdict(self) -> Verdict | None:
        return None if self.plan is None else self.plan.verdict

    @property
    def fullest_bytes(self) -> int | None:
        """What is planned for the device that is fullest, against what is free there."""
        return None if self.plan is None else self.plan.bottleneck.breakdown.total

    @property
    def num_gpus(self) -> int:
        """In use, on all machines."""
        if self.plan is None:
            return 0
        return sum(not device.target.is_cpu for device in self.plan.used) * self.plan.num_nodes

    def to_json(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "way": self.code,
            "patch": self.patch.to_json(),
            "verdict": self.verdict,
            "reason": None if self.reason is None else self.reason.text(),
            "num_gpus": self.num_gpus,
            "num_processes": None if plan is None else plan.num_processes,
            "fullest_bytes": self.fullest_bytes,
            "step_seconds": None if self.time is None else list(self.time.step_s),
            "tokens_per_s": None if self.tokens_per_s is None else list(self.tokens_per_s),
            "epoch_seconds": None if self.epoch_s is None else list(self.epoch_s),
            "epoch_cost": None if self.epoch_cost is None else list(self.epoch_cost),
        }


def plan_ddp(planner: Planner, config: TrainingConfig, targets: Sequence[Target]) -> Plan:
    """The whole model on each device. Raises what `make_shared_plan` raises, and what the planner does for the model."""
    return planner.on(targets).plan(config.model_copy(update={"strategy": "ddp"}))


def plan_fsdp(planner: Planner, config: TrainingConfig, targets: Sequence[Target]) -> Plan:
    """A share of the model on each device; with `fsdp_offload_params` in host memory. Raises likewise."""
    return planner.on(targets).plan(config.model_copy(update={"strategy": "fsdp"}))


def plan_single(planner: Planner, config: TrainingConfig, targets: Sequence[Target]) -> Plan:
    """The whole model on one device, in one process: where it fits best, of these the fastest, then the emptiest.

    Raises `TooLittleMemoryError` where no GPU has `min_memory_gb`.
    """
    here = planner.on(targets)
    units = here.profile(config).num_units
    plans = [here.score(config, (index,) * units) for index in usable_targets(targets, options_of(config))]

    def preference(plan: Plan) -> tuple[int, float, int]:
        target = plan.used[0].target
        pace = target.spec.training_flops if target.spec else 0.0
        return ORDER.index(plan.verdict), -pace, -target.capacity_bytes

    return min(plans, key=preference)


def plan_split(planner: Planner, config: TrainingConfig, targets: Sequence[Target]) -> Plan:
    """The blocks spread over several GPUs, in one process, the busiest as free as can be. Raises `DeviceError` where that
    is no split."""
    _refuse_one_gpu(targets)
    options = options_of(config)
    plan = planner.on(targets).plan(config.model_copy(update={"strategy": "layer_split", "device_map": None}), options)
    if plan.strategy != "layer_split":
        raise DeviceError(N_("No placement over several GPUs leaves the busiest one more room than one GPU alone."))
    return plan


def _refuse_one_gpu(targets: Sequence[Target]) -> None:
    gpus = sum(not target.is_cpu for target in targets)
    if gpus < 2:
        raise PlanError(
            Plural(
                "It needs several GPUs, and there is {count} here.",
                "It needs several GPUs, and there are {count} here.",
            ),
            count=gpus,
        )


MAKERS: dict[WayCode, Callable[[Planner, TrainingConfig, Sequence[Target]], Plan]] = {
    "single": plan_single,
    "single_4bit": plan_single,
    "layer_split": plan_split,
    "ddp": plan_ddp,
    "fsdp": plan_fsdp,
    "fsdp_offload": plan_fsdp,
}


def options_on_this_machine(
    planner: Planner,
    config: TrainingConfig,
    targets: Sequence[Target],
    conditions: Conditions | None = None,
    price: Price | None = None,
) -> list[Way]:
    """All ways, those that cannot work here with the reason; in the order of `WAYS`.

    A planner that traces nothing says so of ways whose profile is not known. Raises `WorkerError` where the torch process
    that traces has failed, for then nothing is known of the way.
    """
    conditions = conditions or Conditions(planner.link_speed)
    return [way_of(code, planner, config, targets, conditions, price) for code in WAYS if _differs(code, config)]


def _differs(code: WayCode, config: TrainingConfig) -> bool:
    """Whether it is a way of its own: what is in 4 bits already need not be put there."""
    return code != "single_4bit" or config.quantization != "nf4"


def way_of(
    code: WayCode,
    planner: Planner,
    config: TrainingConfig,
    targets: Sequence[Target],
    conditions: Conditions,
    price: Price | None = None,
    num_processes: int | None = None,
) -> Way:
    """One of them; `num_processes`: so many in the place of what the config says."""
    patch = patch_for(code, config)
    if num_processes is not None:
        patch = patch | {"num_processes": num_processes}
    try:
        changed = with_changes(config, **patch.as_values())
        if code == "fsdp_offload" and all(target.is_cpu for target in targets):
            raise PlanError(N_("Without a GPU, all weights are in host memory anyway."))
        plan = MAKERS[code](planner, changed, targets)
    except WorkerError:
        raise
    except FlightdeckError as error:
        return Way(code, patch, None, error.message)
    if plan.is_shared and num_processes is None:
        patch = patch | {"num_processes": plan.num_processes}
    return with_figures(Way(code, patch, plan), changed, planner.on(targets), conditions, price)


def patch_for(code: WayCode, config: TrainingConfig) -> Patch:
    """What makes the config train so. Keys that would say otherwise are taken out."""
    strategy = {"single_4bit": "single", "fsdp_offload": "fsdp"}.get(code, code)
    changes: dict[str, Any] = {"strategy": strategy}
    if config.device_map is not None and config.device_map != "cpu":
        changes["device_map"] = DELETE
    if config.use_balanced_device_map and strategy != "layer_split":
        changes["use_balanced_device_map"] = DELETE
    if strategy in ("single", "layer_split"):
        changes |= {"num_processes": DELETE} if config.num_processes not in (None, 1) else {}
        changes |= {"num_nodes": DELETE} if config.num_nodes != 1 else {}
    if code == "single_4bit":
        changes["quantization"] = "nf4"
    if code == "fsdp_offload":
        changes["fsdp_offload_params"] = True
    elif config.fsdp_offload_params:
        changes["fsdp_offload_params"] = DELETE
    return Patch(changes)


def with_figures(
    way: Way, config: TrainingConfig, planner: Planner, conditions: Conditions, price: Price | None = None
) -> Way:
    """A way that has a plan, with its time, pace and cost where they can be said."""
    plan = way.plan
    assert plan is not None
    here = Conditions(planner.link_speed, conditions.cpu, conditions.lengths, conditions.num_rows)
    time = estimate(plan, config, here)
    if time is None:
        return Way(way.code, way.patch, plan)
    tokens = passes_of(config) * tokens_in_pass(plan, config, here)
    fast, slow = time.step_s
    packed = here.lengths if sharing_of(plan, config) == "packed" else None
    steps = num_steps(config.model_copy(update={"max_steps": None, "num_epochs": 1}), here.rows, packed)
    epoch_s = None if steps is None else (fast * steps, slow * steps)
    hourly = price.amount * way.num_gpus if price is not None else 0.0
    return Way(
        way.code,
        way.patch,
        plan,
        time=time,
        tokens_per_s=(tokens / slow, tokens / fast),
        epoch_s=epoch_s,
        epoch_cost=None if epoch_s is None or not hourly else (epoch_s[0] / 3600 * hourly, epoch_s[1] / 3600 * hourly),
        note=slowest_note(plan, here.cpu),
    )
