"""Nested values with tensors in them, as JSON and a flat dict of tensors: what torch would pickle, without code in it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch

TENSOR, TUPLE, PAIRS, PARTS = "$tensor", "$tuple", "$pairs", "$parts"
"""Keys of the objects that stand for what JSON has no word for: a tensor's name, a tuple, a dict whose keys are numbers, a
tensor that is made of others."""
MADE_OF_OTHERS = ("torchao.",)
"""Where the classes of such tensors may come from: torchao's optimizers keep their states in few bits so."""
PLAIN = (bool, int, float, str, type(None))


def pack(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` as JSON has it. Its tensors go to `tensors` on the CPU, under names that begin with `name`.

    A tensor that stands in two places has one name. Raises `TypeError` for what is neither plain nor a tensor.
    """
    return _pack(value, name, tensors, {})


def _pack(value: Any, name: str, tensors: dict[str, torch.Tensor], known: dict[int, str]) -> Any:
    if isinstance(value, torch.Tensor):
        if type(value) not in (torch.Tensor, torch.nn.Parameter):
            return _pack_parts(value, name, tensors, known)
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


def _pack_parts(value: Any, name: str, tensors: dict[str, torch.Tensor], known: dict[int, str]) -> Any:
    """By torch's own protocol for such tensors."""
    parts, context = value.__tensor_flatten__()
    kind = type(value)
    held = {part: _pack(getattr(value, part), f"{name}.{part}", tensors, known) for part in parts}
    shape = [list(value.shape), list(value.stride())]
    return {PARTS: [kind.__module__, kind.__name__, held, _pack(context, f"{name}.context", tensors, known), shape]}


def _unpack_parts(packed: list[Any], tensors: Mapping[str, torch.Tensor]) -> Any:
    module, kind, held, context, (shape, stride) = packed
    if not str(module).startswith(MADE_OF_OTHERS):
        raise ValueError(f"no tensor of {module} is made")
    cls = getattr(importlib.import_module(module), kind)
    return cls.__tensor_unflatten__(unpack(held, tensors), unpack(context, tensors), torch.Size(shape), tuple(stride))


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
    if value.keys() == {PARTS}:
        return _unpack_parts(value[PARTS], tensors)
    return {key: unpack(one, tensors) for key, one in value.items()}
