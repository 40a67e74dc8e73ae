"""How many steps a backtracking matcher can take at most, for expressions simple enough that this can be told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lora_backend.expressions.matching import KEY, LAYERS, SAVED

MAX_LENGTH = 2_000
"""Characters of an expression that is looked at."""
MAX_DEPTH = 20
"""Groups in groups; `re` compiles each by a call of its own."""
_TOKEN = re.compile(
    r"""(?P<open>\((?:\?(?:[:=!]|P<[A-Za-z_]\w{0,30}>))?)
    | (?P<close>\)\??(?![*+?{]))
    | (?P<bar>\|)
    | (?P<anchor>[\^$](?![*+?{]))
    | (?P<atom>\\[.\-dDwWsS] | \[\^?[\w.]+(?:-[\w.]+)*\] | [\w\-/:,@ ] | \.)
      (?P<repeat>(?:[*+?]|\{\d{1,2}(?:,\d{0,2})?\})\??(?![*+?{]))?""",
    re.VERBOSE | re.ASCII,
)
_AROUND = {KEY: (0, 1, 1), SAVED: (1, 1, 1), LAYERS: (0, 2, 1)}
"""What PEFT puts around an expression: free repeats, repeats that end at a dot, choices of two."""


@dataclass(frozen=True)
class Names:
    """What of the names decides how long a match takes."""

    count: int
    length: int
    """Characters of the longest."""
    dots: int
    """Dots in the one that has most."""


def most_steps(form: str, pattern: str, names: Names) -> float:
    """Steps of holding `pattern` against all the names, never too few; infinite where that cannot be told.

    Without a repeat of what repeats or chooses itself, a match is a row of choices: how often each atom repeats, which
    alternative is taken. The product of their numbers bounds the ways, and a way has at most as many steps as there
    are tokens, and characters for each repeat. A repeat before `\\.` goes on only where the name has a dot.
    """
    if len(pattern) > MAX_LENGTH:
        return float("inf")
    free, to_dot, choices = _AROUND.get(form, (0, 0, 0))
    ways, repeats, tokens, depth, place = 2.0**choices, free + to_dot, 0, 0, 0
    ways *= (names.length + 1) ** free * (names.dots + 1) ** to_dot
    while place < len(pattern):
        token = _TOKEN.match(pattern, place)
        if token is None:
            return float("inf")
        place, tokens = token.end(), tokens + 1
        depth += bool(token["open"]) - bool(token["close"])
        if token["bar"] or (token["close"] or "").endswith("?"):
            ways *= 2
        if token["repeat"]:
            count, is_open = _times(token["repeat"])
            is_before_dot = pattern.startswith("\\.", place)
            ways *= (names.dots if is_before_dot else names.length) + 1 if is_open else count
            repeats, tokens = repeats + 1, tokens + count
        if not 0 <= depth <= MAX_DEPTH or ways > 1e12:
            return float("inf")
    return names.count * ways * (tokens + 1 + names.length * (repeats + 1))


def _times(repeat: str) -> tuple[int, bool]:
    """How many counts a repeat may have, and whether only the name bounds them."""
    repeat = repeat[:-1] if len(repeat) > 1 and repeat.endswith("?") else repeat
    if repeat == "?":
        return 2, False
    if repeat in ("*", "+"):
        return 1, True
    low, comma, high = repeat[1:-1].partition(",")
    return (int(low) + 1 if not comma else int(high or 0) + 1), bool(comma and not high)
