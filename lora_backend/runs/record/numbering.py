"""The numbers of a run's GPUs: in its plan those of the machine, in its trainer those of the GPUs that it is shown.

An attempt's file has the plan's numbers everywhere. Only the trainer, which sees the plan's GPUs alone and the
embedding's first, has others.
"""

from __future__ import annotations

from collections.abc import Mapping

from lora_backend.hardware.visible import VISIBLE
from lora_backend.runs.record.attempts import Attempt


def shown_uuids(attempt: Attempt) -> list[str]:
    """The GPUs that an attempt's trainer is shown, in the order of its numbers."""
    return [name for name in attempt.environment.get(VISIBLE, "").split(",") if name.startswith(("GPU-", "MIG-"))]


def trainer_numbers(attempt: Attempt) -> dict[int | str, int]:
    """Number in the plan → number in the trainer.

    Empty where they are the same: attempts without a plan, on the CPU, and of versions that hid no GPU.
    """
    shown = shown_uuids(attempt)
    return {
        device.index: shown.index(device.uuid)
        for device in (attempt.plan.devices if attempt.plan else ())
        if device.uuid in shown and device.index is not None
    }


def in_trainer(device_map: Mapping[str, int | str], attempt: Attempt) -> dict[str, int | str]:
    """A map of the plan, or of the config, in the trainer's numbers."""
    numbers: dict[int | str, int] = trainer_numbers(attempt)
    numbers |= {f"cuda:{planned}": number for planned, number in numbers.items()}
    return {module: numbers.get(place, place) for module, place in device_map.items()}


def as_planned(place: int | str, attempt: Attempt) -> int | str:
    """A device of the trainer in the plan's numbers."""
    return next((planned for planned, number in trainer_numbers(attempt).items() if number == place), place)
