"""Whether an unknown key is one of ours with a slip of the finger, or only looks like one."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

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
