"""Placements made by hand: checked, moved and scored as they are, never corrected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lora_backend.errors import DeviceError
from lora_backend.i18n import N_
from lora_backend.planning.partition import Device, Split, Stage, check_device, utilisation


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


def stages_of(assignment: Sequence[int]) -> tuple[Stage, ...]:
    """The runs of units that follow each other on one device; a device has several where it is come back to."""
    cuts = [unit for unit in range(len(assignment)) if unit == 0 or assignment[unit] != assignment[unit - 1]]
    return tuple(
        Stage(assignment[start], start, stop) for start, stop in zip(cuts, [*cuts[1:], len(assignment)], strict=True)
    )


def score_assignment(
    assignment: Sequence[int], devices: Sequence[Device], bytes_of: Callable[[tuple[int, ...]], int]
) -> Split:
    """How full a placement makes its fullest device; a device may hold units that do not follow each other.

    `assignment` names the device of each unit; `bytes_of` says what the units of one device take there at their peak,
    without the overhead, and is asked once a device. Raises `DeviceError` where a device is not there.
    """
    held: dict[int, list[int]] = {}
    for unit, device in enumerate(assignment):
        check_device(device, len(devices))
        held.setdefault(device, []).append(unit)
    fullest = max(utilisation(bytes_of(tuple(units)), devices[device]) for device, units in held.items())
    return Split(stages_of(assignment), fullest)
