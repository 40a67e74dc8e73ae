"""Values of a config that PEFT could not use: of another type than the key takes, or a rank that is no whole number.

Nothing here raises: a config may come from anywhere, and what is wrong with it is part of the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from lora_backend.config.findings import shorten

LONG = 80
"""Characters of a value that are shown."""


def is_rank(value: Any) -> bool:
    """Whether it can be a rank: a whole number above 0; True is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_alpha(value: Any) -> bool:
    """Whether it can be an alpha: any finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _list_of(is_good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def test(value: Any) -> bool:
        if value is None:
            return True
        is_list = isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)
        return is_list and all(map(is_good, value))

    return test


def _one_or_list_of(is_good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: is_good(value) or _list_of(is_good)(value)


def _one_of(*words: str | None) -> Callable[[Any], bool]:
    return lambda value: value in words if value is None or isinstance(value, str) else False


VALUES: dict[str, Callable[[Any], bool]] = {
    "r": is_rank,
    "init_r": is_rank,
    "alpha": is_alpha,
    "lora_alpha": is_alpha,
    "use_rslora": _is_flag,
    "use_dora": _is_flag,
    "bias": _one_of("none", "all", "lora_only"),
    "task_type": _one_of(
        None, "CAUSAL_LM", "SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"
    ),
    "target_modules": _one_or_list_of(_is_text),
    "exclude_modules": _one_or_list_of(_is_text),
    "target_parameters": _list_of(_is_text),
    "modules_to_save": _list_of(_is_text),
    "layers_pattern": _one_or_list_of(_is_text),
    "target_layers": _one_or_list_of(_is_index),
    "layers_to_transform": _one_or_list_of(_is_index),
}
"""Key of ours or of an `adapter_config.json` → what it takes."""
PATTERNS: dict[str, Callable[[Any], bool]] = {"rank_pattern": is_rank, "alpha_pattern": is_alpha}


def wrong_values(config: Mapping[str, Any], *, is_adalora: bool = False) -> Iterator[tuple[str, str]]:
    """Key and value, or pattern and value, of everything that PEFT could not use."""
    for key, is_good in VALUES.items():
        if key in config and not is_good(config[key]):
            yield key, _shown(config[key])
    for key, is_good in PATTERNS.items():
        pattern = config.get(key)
        if not isinstance(pattern, Mapping):
            is_unused = pattern is None and (is_adalora or "peft_type" not in config)  # PEFT's LoRA takes no null
            if key in config and not is_unused and pattern != []:
                yield key, _shown(pattern)
        else:
            is_rows = is_adalora and key == "rank_pattern"  # AdaLoRA keeps there which rows its budget left
            for name, value in pattern.items():
                if not isinstance(name, str) or not (isinstance(value, list) if is_rows else is_good(value)):
                    yield key, f"{name}: {_shown(value)}"


def _shown(value: Any) -> str:
    return shorten(value, LONG)
