"""Which GPUs a process sees through CUDA and as which `cuda:n`, and the environment that makes it see given ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lora_backend.errors import DeviceError
from lora_backend.hardware.inventory import Gpu
from lora_backend.i18n import N_, Message

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
BUS_ORDER = "PCI_BUS_ID"
"""NVML's own order; CUDA's default is FASTEST_FIRST."""


def visible_gpus(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> tuple[tuple[Gpu, ...], Message | None]:
    """Of `gpus` (all that NVML shows) those that torch sees under `environment`, the first being `cuda:0`.

    The message says what is hidden, ignored or uncertain. Sources: CUDA Programming Guide, Environment Variables (what an
    entry may be, the first invalid one ends the list); `torch.cuda._parse_visible_devices` (leading digits count, an
    entry twice shows nothing); MIG User Guide, CUDA Device Enumeration (one instance, and no whole GPU beside it).
    """
    if not gpus:
        return (), None
    value = environment.get(VISIBLE)
    notes: list[Message] = []
    if value is None:
        seen = list(gpus)
    else:
        seen, note = _listed(gpus, value)
        notes += [note] if note else []
    by_number = value is None or not value.startswith(("GPU-", "MIG-"))
    if seen and by_number and environment.get(ORDER) != BUS_ORDER and _are_unequal(gpus):
        notes.append(
            Message(
                N_(
                    "The GPUs here are unequal, and CUDA may number them in another order than they are shown in: fastest first. Set CUDA_DEVICE_ORDER=PCI_BUS_ID so that the numbers agree."
                )
            )
        )
    instances = [gpu for gpu in seen if gpu.parent_uuid]
    if instances and len(seen) > 1:
        seen = instances[:1]
        notes.append(
            Message(
                N_(
                    "A process can compute on one MIG instance only, and on no whole GPU beside it: CUDA takes the first, {name} ({uuid})."
                ),
                {"name": seen[0].name, "uuid": seen[0].uuid},
            )
        )
    # Nothing but a value: there is nothing in it to translate.
    return tuple(seen), Message("{notes}", {"notes": notes}) if len(notes) > 1 else next(iter(notes), None)


def unusable_together(gpus: Sequence[Gpu]) -> Message | None:
    """Why one process cannot compute on all of `gpus`; None where it can."""
    instances = [gpu for gpu in gpus if gpu.parent_uuid]
    if len(instances) > 1:
        return Message(
            N_(
                "A process can compute on one MIG instance only, and {count} are chosen. Choose one of them, or whole GPUs."
            ),
            {"count": len(instances)},
        )
    if instances and len(gpus) > 1:
        return Message(
            N_(
                "A process cannot compute on a MIG instance and on whole GPUs at once. Choose the instance {name}, or whole GPUs only."
            ),
            {"name": instances[0].name},
        )
    return None


def environment_for(gpus: Sequence[Gpu]) -> dict[str, str]:
    """The two variables under which a process sees just `gpus`, as `cuda:0`, `cuda:1`, … in this order.

    GPUs are named by UUID, which no order of numbering changes; without any, all are hidden. Raises `DeviceError` where
    one process cannot use them together.
    """
    if obstacle := unusable_together(gpus):
        raise DeviceError(obstacle.template, **obstacle.values)
    return environment_of([gpu.uuid for gpu in gpus])


def environment_of(uuids: Sequence[str]) -> dict[str, str]:
    """The same for GPUs that are known to be usable together."""
    return {ORDER: BUS_ORDER, VISIBLE: ",".join(uuids) or "-1"}


def _listed(gpus: Sequence[Gpu], value: str) -> tuple[list[Gpu], Message | None]:
    """The GPUs that the entries of CUDA_VISIBLE_DEVICES name, and what there is to say about them."""
    twice = Message(
        N_("CUDA_VISIBLE_DEVICES names a GPU twice, and CUDA then shows none of them. Training runs on the CPU.")
    )
    kind = value[:4] if value.startswith(("GPU-", "MIG-")) else ""
    entries: dict[str | int, str] = {}
    stopped_at: str | None = None
    for entry in value.split(","):
        key = entry if kind else _leading_number(entry)
        if key in entries:
            return [], twice
        if (isinstance(key, int) and key < 0) or not entry.startswith(kind):
            stopped_at = entry
            break
        entries[key] = entry
    seen: list[list[Gpu]] = []
    for key, entry in entries.items():
        named = _named(gpus, key)
        if not named:
            stopped_at = entry
            break
        if named in seen:  # two prefixes of one UUID
            return [], twice
        seen.append(named)
    if not seen:
        return [], Message(
            N_(
                "CUDA_VISIBLE_DEVICES ({value}) names no GPU of this machine: all are hidden. Training runs on the CPU."
            ),
            {"value": value or '""'},
        )
    flat = [gpu for named in seen for gpu in named]
    if stopped_at is None or re.fullmatch(r"\s*(-\d+)?\s*", stopped_at):  # a negative number is meant as an end
        return flat, None
    return flat, Message(
        N_(
            "CUDA_VISIBLE_DEVICES: {entry} is not a GPU here, or fits more than one; CUDA ignores it and all entries after it."
        ),
        {"entry": stopped_at.strip()},
    )


def _leading_number(entry: str) -> int:
    """The number that `entry` begins with, as C's `strtoul` reads it; -1 where there is none."""
    digits = re.match(r"[+-]?[0-9]+", entry.strip())
    return int(digits[0]) if digits else -1


def _named(gpus: Sequence[Gpu], key: str | int) -> list[Gpu]:
    """The GPU of that number or of the only UUID that begins with `key`; in MIG mode, all its instances."""
    if isinstance(key, int):
        return [gpu for gpu in gpus if gpu.index == key]
    if key.startswith("MIG-"):
        instances = [gpu for gpu in gpus if gpu.parent_uuid and gpu.uuid.startswith(key)]
        return instances if len(instances) == 1 else []
    named = [gpu for gpu in gpus if (gpu.parent_uuid or gpu.uuid).startswith(key)]
    return named if len({gpu.index for gpu in named}) == 1 else []


def _are_unequal(gpus: Sequence[Gpu]) -> bool:
    # Of an instance only the GPU's name counts: two equal GPUs may be cut differently.
    kinds = {(gpu.name.partition(" MIG ")[0], gpu.compute_capability) for gpu in gpus}
    sizes = {gpu.total_bytes for gpu in gpus if not gpu.parent_uuid}
    return len(kinds) > 1 or len(sizes) > 1
