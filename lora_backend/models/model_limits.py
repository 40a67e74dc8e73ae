"""What a `config.json` may count: a billion blocks are a few letters there, and all the memory of a machine when built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lora_backend.errors import ModelError
from lora_backend.i18n import N_

MAX_BLOCKS = 1_000
"""Of any kind of layer. The deepest models have some 130."""
MAX_EXPERTS = 4_096
"""In one block."""
MAX_EXPERTS_IN_ALL = 50_000
"""Blocks times experts; the largest mixtures have some 23,000."""
MAX_LABELS = 100_000
"""transformers writes out a name for each."""
MAX_WIDTH = 2**26
"""Of one dimension of a tensor; the largest vocabularies have some 300,000 entries."""
_COUNTS = (
    (re.compile(r"(^|_)(layers?|blocks?|depths?|stages|codebooks)$"), MAX_BLOCKS),
    (re.compile(r"(^|_)experts$"), MAX_EXPERTS),
    (re.compile(r"^num_labels$"), MAX_LABELS),
    (re.compile(r"(_size|_dim|_heads|^n_embd|^n_head|^n_inner|^d_model|^d_ff)$"), MAX_WIDTH),
)
_AT_LEAST_ONE = (
    *("vocab_size", "hidden_size", "n_embd", "d_model", "num_hidden_layers", "n_layer", "n_layers"),
    *("num_attention_heads", "n_head", "n_heads", "num_key_value_heads"),
)
"""Of a language model; a tower beside it may have none of a kind."""
_PER_BLOCK = re.compile(r"layer|block")
DEEPEST = 8
"""Mappings in mappings that are looked through; a vision-language config has two or three."""


def refuse_oversized(facts: Mapping[str, Any]) -> None:
    """Raise `ModelError` with key, value and limit where a `config.json` counts more than can be built, or nothing at all."""
    for part in (facts, facts.get("text_config")):
        if isinstance(part, Mapping):
            _refuse_nothing(part)
    for part in _parts(facts, DEEPEST):
        for key, value in part.items():
            _refuse_entry(key, value)
        blocks, experts = (_largest(part, limit) for limit in (MAX_BLOCKS, MAX_EXPERTS))
        if part.get(blocks, 0) * part.get(experts, 0) > MAX_EXPERTS_IN_ALL:
            raise ModelError(
                N_("`{blocks}` × `{experts}` in config.json is {value} experts; the limit is {limit}. Check the file."),
                blocks=blocks,
                experts=experts,
                value=part[blocks] * part[experts],
                limit=MAX_EXPERTS_IN_ALL,
            )


def _refuse_nothing(part: Mapping[str, Any]) -> None:
    key = next((key for key in _AT_LEAST_ONE if type(part.get(key)) is int and part[key] < 1), None)
    if key is not None:
        raise ModelError(
            N_("`{key}` in config.json is {value}, but must be at least 1. Check the file."), key=key, value=part[key]
        )


def _refuse_entry(key: str, value: Any) -> None:
    if isinstance(value, list) and len(value) > MAX_BLOCKS and _PER_BLOCK.search(key):
        raise ModelError(
            N_("`{key}` in config.json has {count} entries; the limit is {limit}. Check the file."),
            key=key,
            count=len(value),
            limit=MAX_BLOCKS,
        )
    limit = _limit(key)
    if isinstance(value, list):  # a count for each stage, or which blocks are of some kind
        value = max((number for number in value if type(number) is int), default=0)
    if limit is not None and type(value) is int and value > limit:
        raise ModelError(
            N_("`{key}` in config.json is {value}; the limit is {limit}. Check the file."),
            key=key,
            value=value if value < 10**15 else f"{str(value)[:15]}…",
            limit=limit,
        )


def _limit(key: str) -> int | None:
    return next((limit for name, limit in _COUNTS if name.search(key)), None)


def _largest(part: Mapping[str, Any], limit: int) -> str:
    """The key that counts the most of those with this limit."""
    keys = [key for key, value in part.items() if type(value) is int and _limit(key) == limit]
    return max(keys, key=lambda key: part[key], default="")


def _parts(facts: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    """A config, and those that it holds: of text, of vision, …"""
    yield facts
    for value in facts.values():
        if isinstance(value, Mapping) and depth:
            yield from _parts(value, depth - 1)
