"""torch.compile on the parts of each block that take hidden states alone: norms and feed-forward layers.

So norm, activation, adapter and casts of a part become few passes over memory. Attention stays as it is: it takes the
examples' lengths, and torch would compile anew for each number of examples in a batch. Parts alike are compiled once,
for any number of tokens, on a few tokens before the first step: always the same ones, so that a resumed run compiles the
same.
"""

from __future__ import annotations

import inspect
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from lora_backend.errors import ConfigError, first_line
from lora_backend.i18n import N_
from lora_backend.modeling.blocks import find_blocks
from lora_backend.modeling.step import computing_in, inputs_device

logger = logging.getLogger(__name__)
COMPILERS = ("g++", "clang++", "c++")
"""One of them is enough; torch asks for the first where nobody tells it otherwise (`torch/_inductor/config.py`, `cpp.cxx`)."""
TRIED_ROWS, TRIED_TOKENS = (1, 2), 16
"""A flat batch has one row, a padded one several: torch compiles for each."""


class _Seen(NamedTuple):
    """What a part's input was in a pass of the model."""

    size: int
    dtype: torch.dtype
    device: torch.device
    needs_gradient: bool


def compile_parts(model: nn.Module, precision: str) -> None:
    """Compile the parts of `model`, and log how long that took, and for which of them it could not be done.

    Draws random numbers. Raises `ConfigError` where this machine has no C++ compiler.
    """
    if not any(shutil.which(name) for name in COMPILERS):
        raise ConfigError(
            N_(
                "`torch_compile` needs a C++ compiler, and this machine has none. Install g++, or set `torch_compile: false`."
            )
        )
    parts, began = parts_of(model), time.monotonic()
    if not parts:
        logger.warning("torch_compile: no block has a part that torch compiles by itself; the run goes on without it")
        return
    torch.compiler.reset()  # what this process has compiled before must not decide how these round
    logger.info("torch_compile: compiling norms and feed-forward layers; the first step begins up to a minute later")
    failed: dict[str, int] = {}
    with computing_in(precision, inputs_device(model)):
        for part, seen in _inputs_of(model, parts):
            why_not = _compile(part, seen)
            if why_not is not None:
                failed[why_not] = failed.get(why_not, 0) + 1
    compiled = len(parts) - sum(failed.values())
    logger.info("torch_compile: %d of %d parts compiled in %.1f s", compiled, len(parts), time.monotonic() - began)
    for why_not, count in failed.items():
        logger.warning("torch_compile: %d parts compute without it: %s", count, why_not)


def put_off_compiled(model: nn.Module) -> None:
    """Let every part of `model` compute by its own code again."""
    for part in parts_of(model):
        own = vars(part)
        if isinstance(own.get("forward"), _Compiled):
            plain = own.pop("forward").plain
            if plain is not None:
                part.forward = plain


@contextmanager
def without_compiled(model: nn.Module) -> Iterator[None]:
    """Within the block every part of `model` computes by its own code: token by token, torch would compile anew."""
    compiled = [(part, found) for part in parts_of(model) if isinstance(found := vars(part).get("forward"), _Compiled)]
    put_off_compiled(model)
    try:
        yield
    finally:
        for part, found in compiled:
            part.forward = found


def parts_of(model: nn.Module) -> list[nn.Module]:
    """Children of blocks that have weights and are called with one tensor."""
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    found = find_blocks(causal)
    children = [child for block in found[1] for child in block.children()] if found else []
    return [child for child in children if any(True for _ in child.parameters()) and _takes_one_tensor(child)]


def _takes_one_tensor(module: nn.Module) -> bool:
    parameters = list(inspect.signature(type(module).forward).parameters.values())[1:]
    return len(parameters) == 1 and parameters[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


class _Compiled:
    """A part's forward pass, compiled; its own one is kept where it was put into the module by somebody else."""

    def __init__(self, part: nn.Module) -> None:
        self.plain = vars(part).get("forward")
        self._call = torch.compile(part.forward, dynamic=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


def _compile(part: nn.Module, seen: _Seen) -> str | None:
    """Put it in and try it; the reason in torch's words where it cannot be, and the part is as it was."""
    compiled = _Compiled(part)
    part.forward = compiled
    try:
        for rows in TRIED_ROWS:
            shape = (rows, TRIED_TOKENS, seen.size)
            hidden = torch.randn(shape, dtype=seen.dtype, device=seen.device, requires_grad=seen.needs_gradient)
            result = part(hidden)
            if result.requires_grad:
                inputs = [one for one in (hidden, *part.parameters()) if one.requires_grad]
                torch.autograd.grad(result.sum(), inputs, allow_unused=True)
    except Exception as error:  # whatever torch, its compilers or a family's code raise: the part computes without
        del part.forward
        if compiled.plain is not None:
            part.forward = compiled.plain
        return str(first_line(error))
    return None


def _inputs_of(model: nn.Module, parts: list[nn.Module]) -> list[tuple[nn.Module, _Seen]]:
    """The parts that run in a pass of the model, and what they are called with there."""
    seen: dict[nn.Module, _Seen] = {}

    def watch(part: nn.Module, inputs: tuple[Any, ...]) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], torch.Tensor) and inputs[0].dim() == 3:
            hidden = inputs[0]
            seen[part] = _Seen(hidden.shape[-1], hidden.dtype, hidden.device, hidden.requires_grad)

    with _watching(parts, watch):
        ids = torch.zeros((1, TRIED_TOKENS), dtype=torch.long, device=inputs_device(model))
        model(input_ids=ids, use_cache=False)
    return [(part, seen[part]) for part in parts if part in seen]


@contextmanager
def _watching(parts: list[nn.Module], watch: Any) -> Iterator[None]:
    handles = [part.register_forward_pre_hook(watch) for part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
