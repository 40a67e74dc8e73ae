"""What a plan needs, gathered: the model's facts, this machine's devices, a profile from the cache or a new trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lora_backend.config.check import check_config
from lora_backend.config.schema import TrainingConfig
from lora_backend.config.validation import refuse_errors
from lora_backend.hardware.gpu_links import GpuLink
from lora_backend.hardware.inventory import read_gpus, read_host
from lora_backend.hardware.visible import unusable_together, visible_gpus
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.models.causal import refuse_other_kinds
from lora_backend.models.packing import packing_of
from lora_backend.models.quantized import how_expanded, quantized_as, refuse_quantized, why_not_loaded
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.step_time import LinkSpeed
from lora_backend.planning.planner import NotTracedError, Planner, ProfileSource
from lora_backend.planning.profile_store import ProfileStore
from lora_backend.planning.targets import Target, of_host, of_machine, of_words
from lora_backend.preflight.libraries import missing_for
from lora_backend.preflight.named_files import named_model
from lora_backend.preflight.path_policy import AnyPath

Trace = Callable[[Mapping[str, Any], TrainingConfig], Profile]
"""Makes a profile: in the torch process that the dashboard asks, or in this one."""


def model_facts(name: str, installation: Installation) -> Mapping[str, Any]:
    """The `config.json` of a model that is asked about by its name alone. Raises what `NamedModel.config_json` does."""
    return named_model(name, AnyPath(installation.folder)).config_json


def config_to_plan(values: Mapping[str, Any]) -> TrainingConfig:
    """The typed config that is planned; it needs a model and nothing else. Raises `ConfigError` naming every error."""
    result = check_config(values)
    if result.errors:
        refuse_errors(result)
    return TrainingConfig.model_validate(dict(values))


def profiles(facts: Mapping[str, Any], trace: Trace, installation: Installation) -> ProfileSource:
    """Profiles of one model: those that are known, and a trace for each that is not.

    They raise `ModelError` where the model cannot be trained so.
    """
    store = ProfileStore(installation.profiles)
    refuse_other_kinds(facts)

    def profile_of(config: TrainingConfig) -> Profile:
        refuse_quantized(facts, config.quantization)
        known = store.find(facts, config)
        if known is not None:
            return known
        made = trace(facts, config)
        store.save(facts, made)
        return made

    return profile_of


def known_only(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
    """In the place of a trace where nobody shall wait for one. Always raises `NotTracedError`."""
    raise NotTracedError(N_("not traced yet"))


def machine_targets(
    installation: Installation, only: Sequence[str] | None = None
) -> tuple[tuple[Target, ...], LinkSpeed | None, Message | None]:
    """This machine's GPUs as torch numbers them in this installation's environment, their links, and what there is to say of them.

    `only`: of all GPUs that the driver shows those with these UUIDs, in this order, under the numbers that they have
    among all. The host's memory is the one target where there is no GPU.
    """
    inventory = read_gpus()
    gpus, message = visible_gpus(inventory.gpus, installation.environment)
    if only is not None:
        gpus, message = inventory.gpus, None
    if not gpus:
        return (of_host(read_host(installation.workspace)),), None, message or inventory.reason
    targets = of_machine(gpus)
    if only is not None:
        by_uuid = {target.uuid: target for target in targets}
        targets = tuple(by_uuid[uuid] for uuid in only)
    else:
        message = unusable_together(gpus) or message
    return targets, _link_speed([str(target.uuid) for target in targets], inventory.links), message or inventory.reason


def trains_on_host(config: TrainingConfig) -> bool:
    """Whether the config's own map has everything on the CPU, whatever GPUs there are."""
    given = config.device_map
    return given == "cpu" or (isinstance(given, dict) and set(given.values()) == {"cpu"})


def planner_for(
    facts: Mapping[str, Any],
    trace: Trace,
    installation: Installation,
    gpus: str | None = None,
    config: TrainingConfig | None = None,
) -> tuple[Planner, Message | None]:
    """A planner for the GPUs that `gpus` names, or for this machine's; for the host's memory where the map of `config`
    has everything there. Raises `DeviceError` for words that name none."""
    targets, speed, message = machine_targets(installation) if gpus is None else (of_words(gpus), None, None)
    if config is not None and trains_on_host(config) and not targets[0].is_cpu:
        targets, speed = (of_host(read_host(installation.workspace)),), None
        message = Message(N_("`device_map` puts the whole model on the CPU, so no GPU is used."))
    host = of_host(read_host(installation.workspace)) if gpus is None and not targets[0].is_cpu else None
    said = [*([message] if message else []), *of_checkpoint(facts)]
    together = Message("{said}", {"said": said}) if len(said) > 1 else said[0] if said else None
    return Planner(profiles(facts, trace, installation), targets, speed, host), together


def of_checkpoint(facts: Mapping[str, Any]) -> list[Message]:
    """What must be known beside the plan of a model whose `config.json` is `facts`, if it comes quantized."""
    quantized = quantized_as(facts)
    if quantized is None:
        return []
    packing = packing_of(facts, None)
    is_read = packing is not None and packing.expected_error > 0
    percent = f"{100 * packing.expected_error:.0f}" if packing else ""
    read = Message(
        N_(
            "Weights packed by {method} are counted to the byte, but its layers were never run here: the rest may be off by {percent}%."
        ),
        {"method": quantized.method, "percent": percent},
    )
    said = (why_not_loaded(quantized, missing_for(quantized)), how_expanded(quantized), read if is_read else None)
    return [message for message in said if message is not None]


def _link_speed(uuids: list[str], links: tuple[GpuLink, ...]) -> LinkSpeed | None:
    known = {frozenset((link.first_uuid, link.second_uuid)): float(link.bandwidth_bytes_per_s or 0) for link in links}
    if not known:
        return None
    return lambda a, b: known.get(frozenset((uuids[a], uuids[b])), 0.0)
