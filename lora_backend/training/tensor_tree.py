"""Nested values with tensors in them, as JSON and a flat dict of tensors: what torch would pickle, without code in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

TENSOR, TUPLE, PAIRS = "$tensor", "$tuple", "$pairs"
"""Keys of the objects that stand for what JSON has no word for: a tensor's name, a tuple, a dict whose keys are numbers."""
PLAIN = (bool, int, float, str, type(None))


def pack(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` as JSON has it. Its tensors go to `tensors` on the CPU, under names that begin with `name`.

    A tensor that stands in two places has one name. Raises `TypeError` for what is neither plain nor a tensor.
    """
    return _pack(value, name, tensors, {})


def _pack(value: Any, name: str, tensors: dict[str, torch.Tensor], known: dict[int, str]) -> Any:
    if isinstance(value, torch.Tensor):
        if type(value) not in (torch.Tensor, torch.nn.Parameter):
            raise TypeError(f"{name} is a {type(value).__name__}, which safetensors cannot hold")
        known_as = known.setdefault(id(value), name)
        if known_as == name:
            tensors[name] = value.detach().cpu().contiguous()
        return {TENSOR: known_as}
    if isinstance(value, Mapping):
        packed = {key: _pack(one, f"{name}.{key}", tensors, known) for key, one in value.items()}
        return packed if all(isinstance(key, str) for key in packed) else {PAIRS: [[*pair] for pair in packed.items()]}
    if isinstance(value, list | tuple):
        items = [_pack(one, f"{name}.{index}", tensors, known) for index, one in enumerate(value)]
        return items if isinstance(value, list) else {TUPLE: items}
    if isinstance(value, PLAIN):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which JSON cannot hold")


def unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """What `pack` was given. Raises `KeyError` for a tensor that is not there."""
    if isinstance(value, list):
        return [unpack(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {TENSOR}:
        return tensors[value[TENSOR]]
    if value.keys() == {TUPLE}:
        return tuple(unpack(one, tensors) for one in value[TUPLE])
    if value.keys() == {PAIRS}:
        return {key: unpack(one, tensors) for key, one in value[PAIRS]}
    return {key: unpack(one, tensors) for key, one in value.items()}
