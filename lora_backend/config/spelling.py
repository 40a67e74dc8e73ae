"""What a misspelt key or word stands for: one of ours with a slip of the finger, or something that only looks like it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any, Literal, get_args, get_origin

from lora_backend.config.schema import KEYS, Key
from lora_backend.config.yaml_traps import to_ascii

_NEGATIONS = frozenset(
    [
        "no",
        "not",
        "non",
        "disable",
        "disabled",
        "without",
        "skip",
        "exclude",
        "dont",
        "never",
        "ignore",
        "off",
        "deny",
        "forbid",
    ]
)
LEAST_WORD = 3
"""Letters of a word in which one that is wrong can be told from another word."""


def is_slip(written: str, meant: str, words: Collection[str]) -> bool:
    """Whether `written` is `meant` but for a letter too many, too few, wrong or swapped, or an `s` at the end.

    A word of its own is no slip: `words` are all that occur in keys, so that `save_steps` is not `eval_steps`.
    """
    ours, theirs = meant.split("_"), written.split("_")
    if len(ours) != len(theirs):
        return _distance("".join(ours), "".join(theirs)) <= 1 and min(len(meant), len(written)) > LEAST_WORD
    wrong = [(one, other) for one, other in zip(theirs, ours, strict=True) if one != other]
    return len(wrong) <= 2 and all(_is_slip_of_word(one, other, words) for one, other in wrong)


def nearest(written: str, names: Iterable[str], *, cutoff: float = 0.75) -> str | None:
    """The name that looks most like it and does not turn it around."""
    found = difflib.get_close_matches(written, names, n=3, cutoff=cutoff)
    return next((name for name in found if same_polarity(written, name)), None)


def same_polarity(one: str, other: str) -> bool:
    """Whether both say yes or both say no: `no_…` and `disable_…` turn a name around, `exclude_…` did so already."""
    return _negations(one) == _negations(other)


def _negations(name: str) -> int:
    return sum(word in _NEGATIONS for word in name.split("_")) % 2


def _is_slip_of_word(written: str, meant: str, words: Collection[str]) -> bool:
    if written.rstrip("s") == meant.rstrip("s"):
        return True
    if written in words or min(len(written), len(meant)) < LEAST_WORD:
        return False
    return _distance(written, meant) <= (1 if len(meant) < 8 else 2)


def _distance(one: str, other: str) -> int:
    """Letters to put in, take out or change, or neighbours to swap; more than 2 is not counted further."""
    if abs(len(one) - len(other)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        last, row_before, row = before, row, [i]
        before = row_before
        for j, target in enumerate(other, start=1):
            cost = min(row_before[j] + 1, row[j - 1] + 1, row_before[j - 1] + (letter != target))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == target:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


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
