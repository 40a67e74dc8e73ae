"""Placements made by hand: checked, moved and scored as they are, never corrected."""

from __future__ import annotations

from collections.abc import Sequence

from lora_backend.errors import DeviceError
from lora_backend.i18n import N_
from lora_backend.planning.split.partition import check_device


def move(
    assignment: Sequence[int], first_unit: int, last_unit: int, device: int, *, num_devices: int
) -> tuple[int, ...]:
    """`assignment` (the device of each unit) with units `first_unit` to `last_unit`, both included, on `device`.

    Raises `DeviceError` where a unit or the device is not there, or the range runs backwards.
    """
    for unit in (first_unit, last_unit):
        if not 0 <= unit < len(assignment):
            raise DeviceError(
                N_("There is no part {unit} of the model: its parts are numbered 0 to {last}."),
                unit=unit,
                last=len(assignment) - 1,
            )
    if first_unit > last_unit:
        raise DeviceError(
            N_("The range to move starts at {first} and ends before it, at {last}."), first=first_unit, last=last_unit
        )
    check_device(device, num_devices)
    return (*assignment[:first_unit], *[device] * (last_unit - first_unit + 1), *assignment[last_unit + 1 :])
