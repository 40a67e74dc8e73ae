"""The balanced device map: made before anything is loaded, then loaded with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import infer_auto_device_map
from accelerate.utils import get_balanced_memory
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, DeviceError, ModelError, TooLittleMemoryError
from lora_backend.hardware.inventory import read_host
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation, this_installation
from lora_backend.modeling.load import load_model, load_tokenizer
from lora_backend.modeling.meta import build_base
from lora_backend.modeling.profiling import tracer
from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.plan import Plan, device_map, no_gpu_has_enough, usable_targets
from lora_backend.planning.planner import Planner, options_of, precision_on, workload_of
from lora_backend.planning.report import verdict
from lora_backend.planning.split.offload import with_host_memory
from lora_backend.planning.targets import Target, of_host, of_words
from lora_backend.preflight.plan_question import config_to_plan, machine_targets, model_facts, profiles
from lora_backend.views.plan_view import plan_table

logger = logging.getLogger(__name__)
DeviceMap = dict[str, int | str]
MAP_KEYS = ("force_balance", "exclude_cpu", "min_memory_gb", "precision")
"""What `apply_balanced_device_map` takes."""


def create_balanced_device_map(
    model_name_or_path: str,
    force_balance: bool = False,
    exclude_cpu: bool = True,
    *,
    min_memory_gb: float = 2.0,
    config: Mapping[str, Any] | None = None,
    gpus: str | Sequence[Target] | None = None,
) -> DeviceMap:
    """Module → device with the least bottleneck over the GPUs that have `min_memory_gb` GiB free; it can be loaded as it is.

    Planned for training as `config` says, or with the defaults, with the logits on the head's device, where
    `apply_balanced_device_map` and every run leave them. `force_balance`: every GPU gets at least one block, those
    with less memory too. `exclude_cpu=False`: what fits on no GPU lives in host memory, for loading and trying. `gpus`:
    "24,12,8" (GiB) or names of the catalogue in place of this machine's.

    Raises `TooLittleMemoryError` where no GPU may be used and the CPU is excluded, `DeviceError` where the weights do not
    fit, `ModelError` where there is no such model. Training that would need more than is free is warned of. Where the
    model's blocks cannot be found the map is accelerate's `auto`, and a warning says why.
    """
    asked = {"force_balance": force_balance, "exclude_cpu": exclude_cpu, "min_memory_gb": float(min_memory_gb)}
    typed = config_to_plan({**(config or {}), "model_name": model_name_or_path, "device_map": None, **asked})
    return _balanced(typed, gpus, this_installation())


def _balanced(typed: TrainingConfig, gpus: str | Sequence[Target] | None, installation: Installation) -> DeviceMap:
    exclude_cpu = typed.exclude_cpu
    targets = _targets(gpus, installation)
    facts = model_facts(typed.model_name, installation)
    if all(target.is_cpu for target in targets):
        if exclude_cpu:
            raise no_gpu_has_enough(typed.min_memory_gb)
        logger.info("no GPU: everything on the CPU")
        return {"": "cpu"}
    try:
        planner = Planner(profiles(facts, tracer(installation), installation), targets)
        plan = planner.plan(typed)
    except TooLittleMemoryError:
        if exclude_cpu:
            raise
        logger.info("no GPU has %g GiB free: everything on the CPU", typed.min_memory_gb)
        return {"": "cpu"}
    except ModelError as error:
        return _auto_map(facts, typed, targets, installation, error)
    return _checked(plan, typed, planner, installation)


def apply_balanced_device_map(
    model_name_or_path: str, device_map_config: Mapping[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, DeviceMap]:
    """Load a model with a balanced device map: the model, its tokenizer, and the map that the model really has.

    `device_map_config`: `force_balance`, `exclude_cpu`, `min_memory_gb`, `precision`, each as in a training config. Where
    no GPU has enough memory, and `force_balance` is off, that is logged and the model is loaded as if balancing were off.
    """
    unknown = [key for key in device_map_config if key not in MAP_KEYS]
    if unknown:
        raise ConfigError(
            N_("`device_map_config` takes {known}, not {unknown}."),
            known=", ".join(MAP_KEYS),
            unknown=", ".join(map(str, unknown)),
        )
    config = config_to_plan({**device_map_config, "model_name": model_name_or_path, "use_balanced_device_map": True})
    planned, _ = placement(config, this_installation())
    model = load_model(config, planned)
    actual = loaded_map(model)
    if planned is not None and _where(model, planned) != _where(model, actual):
        logger.warning("the model's device map differs from the planned one: %s, planned %s", actual, planned)
    return model, load_tokenizer(model_name_or_path), actual


def placement(config: TrainingConfig, installation: Installation) -> tuple[DeviceMap | str | None, Message | None]:
    """The device map that `config` asks for, and why it is not the balanced one where that was asked for.

    A map in the config is taken as it is. None: one device.
    """
    if not config.is_balanced:
        return config.device_map, None
    try:
        made = _balanced(config, None, installation)
    except TooLittleMemoryError as error:
        if config.force_balance:
            raise
        logger.warning("%s", error)
        logger.warning("the model is loaded as if `use_balanced_device_map` were off")
        return None, error.message
    return made, None


def loaded_map(model: PreTrainedModel) -> DeviceMap:
    """Module → device as a loaded model has it."""
    found = getattr(model, "hf_device_map", None)
    if found:
        return {str(name): _plain(device) for name, device in found.items()}
    return {"": _plain(next(model.parameters()).device)}


def _targets(gpus: str | Sequence[Target] | None, installation: Installation) -> tuple[Target, ...]:
    if isinstance(gpus, str):
        return of_words(gpus)
    if gpus is not None:
        return tuple(gpus)
    targets, _, message = machine_targets(installation)
    if message is not None:
        logger.info("%s", message)
    return in_torch_order(targets)


def in_torch_order(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """This machine's GPUs under the numbers that torch gives them in this process; NVML's order can be another."""
    if not torch.cuda.is_available():
        return targets
    by_uuid = {target.uuid: target for target in targets}
    uuids = [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in range(torch.cuda.device_count())]
    if not all(uuid in by_uuid for uuid in uuids):  # MIG instances go by other names; there is one at most
        return targets
    return tuple(replace(by_uuid[uuid], device=index) for index, uuid in enumerate(uuids))


def _checked(plan: Plan, config: TrainingConfig, planner: Planner, installation: Installation) -> DeviceMap:
    """The plan's map, where at least the weights fit; logs the plan."""
    logger.info("balanced device map:\n%s", plan_table(plan))
    over_bytes = sum(max(device.breakdown.weights - device.target.capacity_bytes, 0) for device in plan.devices)
    if over_bytes:
        resolved = planner.resolved(config)
        memory = Memory(plan.profile, workload_of(resolved, planner.targets))
        usable = [plan.devices[index].target for index in usable_targets(planner.targets, options_of(config))]
        host = None if config.exclude_cpu else of_host(read_host(installation.workspace))
        units, short_bytes = with_host_memory(memory, usable, host, every_device=config.force_balance)
        if short_bytes:
            if host is not None:
                raise DeviceError(
                    N_(
                        "The model's weights do not fit, not even with a part in host memory: {short} GiB are missing. Free memory or add a GPU, or take a smaller model or `quantization: nf4`."
                    ),
                    short=f"{short_bytes / 2**30:.1f}",
                )
            raise DeviceError(
                N_(
                    "The model's weights do not fit: {short} GiB are missing. Free memory or add a GPU, take a smaller model or `quantization: nf4`, or set `exclude_cpu: false` to keep a part in host memory for trying."
                ),
                short=f"{short_bytes / 2**30:.1f}",
            )
        if "cpu" in units:
            logger.warning("some blocks live in host memory; the model can be tried, but not trained so")
        return device_map(plan.profile, units)
    if plan.verdict != "fits":
        logger.warning("training may need more than is free: %s", verdict(plan))
    return plan.device_map


def _auto_map(
    facts: Mapping[str, Any],
    config: TrainingConfig,
    targets: Sequence[Target],
    installation: Installation,
    reason: ModelError,
) -> DeviceMap:
    """What accelerate's `auto` would do, where the blocks cannot be found; said, never silent."""
    settings = TraceSettings(precision=precision_on(config.precision, targets))  # type: ignore[arg-type]  # its words
    model = build_base(facts, settings)  # raises where there is no model to map: nothing is promised before
    message = Message(
        N_("⚠️  The model's layers cannot be found, so the standard `auto` map is used. {reason}"),
        {"reason": reason.message},
    )
    logger.warning("%s", message)
    usable = usable_targets(targets, options_of(config))
    memory: dict[int | str, int] = {targets[index].device: targets[index].capacity_bytes for index in usable}
    if not config.exclude_cpu:
        memory["cpu"] = of_host(read_host(installation.workspace)).capacity_bytes
    no_split = list(getattr(model, "_no_split_modules", None) or [])
    balanced = get_balanced_memory(model, memory, no_split_module_classes=no_split)
    return {str(name): _plain(device) for name, device in infer_auto_device_map(model, balanced, no_split).items()}


def _plain(device: Any) -> int | str:
    if isinstance(device, torch.device):
        return "cpu" if device.type == "cpu" else int(device.index or 0)
    return device if isinstance(device, int) else str(device)


def _where(model: PreTrainedModel, given: DeviceMap | str) -> Any:
    """Per module of the model, its device by a map; the same for maps that say the same in other words."""
    if isinstance(given, str):
        return given
    names = [name for name, _ in model.named_parameters()]
    return {name: _device_of(name, given) for name in names}


def _device_of(name: str, given: DeviceMap) -> int | str | None:
    above = [key for key in given if key == "" or name == key or name.startswith(f"{key}.")]
    return given[max(above, key=len)] if above else None
