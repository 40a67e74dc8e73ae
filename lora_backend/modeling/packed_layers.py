"""Which layers of a model a quantization packs, as transformers chooses them: all others stay whole."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from lora_backend.errors import UntrainableError
from lora_backend.expressions.matching import WHOLE
from lora_backend.expressions.question import Question
from lora_backend.i18n import N_
from lora_backend.models.packing import Packing

PLAIN = re.compile(r"[\w.-]*")
"""A name that is no expression, whatever its dots match."""
BOUNDARY = r"(?:{})(?:(?<=\.)|(?=\.|$)).*"
"""As `should_convert_module` reads an entry that is one."""


def packed_layers(model: PreTrainedModel, packing: Packing, blocks_path: str | None) -> list[nn.Module]:
    """The layers that `packing` packs, of a model that has no adapter yet.

    Raises `ExpressionError` where an entry of the checkpoint's list takes too long.
    """
    found = {name: module for name, module in model.named_modules() if _is_linear(module, packing)}
    if packing.in_blocks_alone:
        found = {name: module for name, module in found.items() if name.startswith(f"{blocks_path}.")}
        chosen = packing.chosen
        return [module for name, module in found.items() if chosen is None or name.endswith(chosen)]
    if packing.kind == "hqq":
        return [module for name, module in found.items() if _tag(name) not in (packing.skipped or ())]
    whole = _left_whole(found, _entries(model, packing))
    return [module for name, module in found.items() if name not in whole]


def refuse_dora(packing: Packing) -> None:
    """Raise `UntrainableError` where PEFT's layer for such weights has no DoRA."""
    if packing.kind in ("gptq", "awq", "aqlm"):
        raise UntrainableError(
            N_("DoRA does not work on weights that {method} has packed. Set `use_dora: false`."),
            about="use_dora",
            method=packing.kind,
        )


def _is_linear(module: nn.Module, packing: Packing) -> bool:
    if packing.kind in ("4bit", "int8"):
        return type(module) is nn.Linear or isinstance(module, Conv1D)
    return isinstance(module, nn.Linear) or (packing.kind == "gptq" and isinstance(module, Conv1D))


def _entries(model: PreTrainedModel, packing: Packing) -> list[str]:
    if packing.kind == "aqlm":
        return list(packing.skipped or ())
    skipped = None if packing.skipped is None else list(packing.skipped)
    in_fp32: Iterable[str] | None = model._keep_in_fp32_modules
    return HfQuantizer.get_modules_to_not_convert(
        model, skipped, None if in_fp32 is None else list(in_fp32), add_default_skips=packing.kind == "awq"
    )


def _left_whole(names: Iterable[str], entries: list[str]) -> set[str]:
    """A checkpoint's list may hold expressions, which come from whoever made it: they are matched by a deadline."""
    names = tuple(names)
    plain = [entry for entry in entries if PLAIN.fullmatch(entry)]
    whole = {name for name in names if not should_convert_module(name, plain)}
    expressions = [entry for entry in entries if entry not in plain]
    patterns = [BOUNDARY.replace("{}", entry) for entry in expressions]
    question = Question()
    question.prepare((WHOLE, patterns, names))
    whole |= {name for name in names if any(question.matches(WHOLE, pattern, name) for pattern in patterns)}
    return whole | {name for name in names if name.endswith(tuple(expressions))}


def _tag(name: str) -> str:
    """A layer as hqq's list names it: `self_attn.q_proj` for that of every block."""
    return ".".join(part for part in name.split(".") if part not in ("model", "layers") and not part.isnumeric())
