"""The words that a key takes, and which of them a misspelling stands for."""

from __future__ import annotations

import difflib
from typing import Any, Literal, get_args, get_origin

from lora_backend.config.schema import KEYS, Key
from lora_backend.config.traps import to_ascii

NEAR = 0.9
"""How alike two words must be for the one to be a slip for the other: `adam_torch` and `adamw_torch`, no more."""
MOST_LETTERS = 100


def words_of(key: Key) -> list[str]:
    """The words that the key takes."""
    kinds = [key.annotation, *get_args(key.annotation)]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    return [word for word in words if isinstance(word, str)]


def near_word(key: str, value: Any) -> str | None:
    """The one word of the key's that `value` is a misspelling of: other letters or a slip, never another meaning."""
    words = words_of(KEYS[key])
    if not isinstance(value, str) or len(value) > MOST_LETTERS:
        return None
    plain = to_ascii(value).strip().lower().replace("-", "_")
    if plain in words:
        return plain
    near = difflib.get_close_matches(plain, words, n=2, cutoff=NEAR)
    # Another number is another thing: `adamw_4bit` is no slip for `adamw_8bit`.
    return near[0] if len(near) == 1 and _digits(near[0]) == _digits(plain) else None


def _digits(word: str) -> list[str]:
    return [char for char in word if char.isdigit()]
