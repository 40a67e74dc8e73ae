"""What the larger files of a run look like. A run that was copied here may hold anything under their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

_STRICT = ConfigDict(strict=True)


class _Planned(TypedDict, total=False):
    index: int | str
    uuid: str | None
    total_bytes: float
    uncertainty_bytes: float


class _Plan(TypedDict, total=False):
    devices: list[_Planned]
    assignment: list[int]
    precision: str
    strategy: str
    device_map: dict[str, Any] | None


class _Tensors(TypedDict, total=False):
    device: int | str
    weights: float
    adapter: float
    gradients: float
    optimizer: float
    moving: float
    tensors: float
    process: float | None


class _Measured(TypedDict, total=False):
    step: int
    rows: int
    tokens: int
    padded: bool
    labelled: int
    devices: list[_Tensors]


class _Expected(TypedDict):
    devices: list[_Tensors]


for _form in (_Planned, _Plan, _Tensors, _Measured, _Expected):
    _form.__pydantic_config__ = _STRICT  # type: ignore[union-attr]
_PARTS: dict[str, TypeAdapter[Any]] = {
    "plan": TypeAdapter(_Plan),
    "measured": TypeAdapter(_Measured),
    "expected": TypeAdapter(_Expected),
}


def is_part(name: str, value: Any) -> bool:
    """Whether it can be the `plan`, the measurement or another object of an attempt."""
    return isinstance(value, Mapping) and (name not in _PARTS or _is(_PARTS[name], value))


def _is(form: TypeAdapter[Any], value: Any) -> bool:
    try:
        form.validate_python(value)
    except ValidationError:
        return False
    return True
