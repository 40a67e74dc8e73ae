"""How other tools let rows share a forward pass → `batching`."""

from __future__ import annotations

from typing import Any

from lora_backend.config.diff import same_value
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import Carried, Rule, is_off, is_on, lost, nothing, translated
from lora_backend.config.foreign.reasons import LEARNS
from lora_backend.i18n import N_

PACKED = N_("`{target}` is {ours}: lines of `max_length` tokens, filled with whole rows that do not see each other.")
FLAT = N_("`{target}` is {ours}: the rows of a batch one after another, without padding.")
BY_LENGTH = N_(
    "`{target}` is {ours}: flat batches have no padding to save, and padded ones are grouped by length anyway."
)
OFF = N_("Off: nothing to carry over.")


def packs() -> Rule:
    """A switch that fills lines with several rows."""

    def apply(source: Source, key: str) -> Carried:
        return translated("batching", "packed", PACKED) if is_on(source.get(key)) else nothing(OFF)

    return Rule(apply, ("batching",), PACKED)


def is_flat(packing: str) -> Rule:
    """A switch that puts a batch's rows in one line; `packing`: the key of the same tool that fills lines, and wins."""

    def apply(source: Source, key: str) -> Carried:
        if is_on(source.get(key)) and is_on(source.get(packing)):
            return nothing(N_("`{key}` is also set and takes precedence."), key=packing)
        return translated("batching", "flat", FLAT) if is_on(source.get(key)) else nothing(OFF)

    return Rule(apply, ("batching",), FLAT)


def by_length(on: Any, *others: Any) -> Rule:
    """A key that puts rows of like length together where it says `on`; `others`: words that ask for nothing."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        if same_value(value, on) or (on is True and is_on(value)):
            return translated("batching", "auto", BY_LENGTH)
        if is_off(value) or any(same_value(value, word) for word in others):
            return nothing(OFF)
        return lost(LEARNS)

    return Rule(apply, ("batching",), BY_LENGTH)
