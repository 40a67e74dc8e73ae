"""Keep everything that trains in fp32 beside a base model in half precision.

bf16 and fp16 round away updates below about 1/256 and 1/2048 of a weight, and GradScaler refuses fp16 gradients. PEFT
casts the adapter's own tensors; copies of `modules_to_save`, biases and norms keep the base model's number format, so
they are cast here. Each module still computes in the format that it computed in before: while it runs its fp32
parameters are replaced by casts of them, as autocast does for linear layers. So nothing of the model around it meets
another dtype, and the first step is the one that half precision would make.

Two kinds of module are cheaper or safer another way:
- A table of embeddings is looked up in fp32 and only the rows that were looked up are cast, for a cast of the table
  would take half of its bytes again.
- bitsandbytes' layers overwrite a bias with the input's dtype (`self.bias.data = …` in `bitsandbytes/nn/modules.py`), so
  they compute without it, and it is added to what they return.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from lora_backend.modeling.quantization import FORMATS

HALF = (torch.float16, torch.bfloat16)
PASSED_THROUGH = (BaseTunerLayer, AuxiliaryTrainingWrapper, nn.ModuleDict, nn.ModuleList)
"""Modules between a trained one and the code that uses it."""


def hold_trained_in_fp32(model: nn.Module) -> None:
    """Cast every trained parameter of `model` to fp32, on whatever device it is, the meta device among them."""
    halves: dict[int, nn.Parameter] = {}
    casts: dict[nn.Module, list[_Cast]] = {}
    for name, module in model.named_modules():
        own = {key: one for key, one in module._parameters.items() if one is not None and one.requires_grad}
        found = [_Cast(module, key, one.dtype) for key, one in own.items() if one.dtype in HALF]
        halves |= {id(one): one for one in own.values() if one.dtype in HALF}
        if "bias" in own and type(getattr(module, "weight", None)).__name__ in FORMATS:
            _watch(module, _BiasBeside())
        elif found and type(module).forward is nn.Embedding.forward:
            module.register_forward_hook(partial(_rows_cast, dtype=found[0].dtype))
        elif found:
            casts.setdefault(module, []).extend(found)
            # Some models use a module's parameters beside it, or cast its input to its weight's dtype.
            if not isinstance(module, nn.Embedding):
                casts.setdefault(_user(model, name), []).extend(found)
    for module, replaced in casts.items():
        _watch(module, _CastForForward(replaced))
    for parameter in halves.values():  # the same objects, so that ties hold
        parameter.data = parameter.data.to(torch.float32)


def embedding_weights(model: nn.Module) -> set[int]:
    """Ids of the weights for which transformers asks 8-bit optimizers to keep their states in 32 bits."""
    return {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}


def _user(model: nn.Module, name: str) -> nn.Module:
    """The module whose forward pass calls the one of this name."""
    path = name.rpartition(".")[0]
    while isinstance(user := model.get_submodule(path), PASSED_THROUGH) and path:
        path = path.rpartition(".")[0]
    return user


def _rows_cast(_: nn.Module, __: Any, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return rows.to(dtype)


class _Cast(NamedTuple):
    owner: nn.Module
    name: str
    dtype: torch.dtype


class _Hooks(Protocol):
    def before(self, module: nn.Module, inputs: Any) -> None: ...
    def behind(self, module: nn.Module, inputs: Any, output: Any) -> Any: ...


def _watch(module: nn.Module, hooks: _Hooks) -> None:
    module.register_forward_pre_hook(hooks.before)
    module.register_forward_hook(hooks.behind, always_call=True)  # checkpointing leaves a forward by an exception


class _CastForForward:
    """While a module's forward pass runs, these parameters are there in these dtypes."""

    def __init__(self, casts: Sequence[_Cast]) -> None:
        self.casts = casts
        self.held: list[tuple[_Cast, Any]] = []

    def before(self, _: nn.Module, __: Any) -> None:
        found = ((cast, cast.owner._parameters[cast.name]) for cast in self.casts)
        self.held = [(cast, parameter) for cast, parameter in found if parameter is not None]  # a stand-in takes biases
        for cast, parameter in self.held:
            cast.owner._parameters[cast.name] = parameter.to(cast.dtype)

    def behind(self, _: nn.Module, __: Any, ___: Any) -> None:
        for cast, parameter in self.held:
            cast.owner._parameters[cast.name] = parameter
        self.held = []


class _BiasBeside:
    """A quantized layer computes without its bias, which is added to its output in the output's dtype."""

    def __init__(self) -> None:
        self.bias: nn.Parameter | None = None

    def before(self, module: nn.Module, _: Any) -> None:
        self.bias, module._parameters["bias"] = module._parameters["bias"], None

    def behind(self, module: nn.Module, _: Any, output: torch.Tensor | None) -> torch.Tensor | None:
        bias, self.bias = self.bias, None
        if bias is None:
            return None
        module._parameters["bias"] = bias
        return None if output is None else output + bias.to(output.dtype)
