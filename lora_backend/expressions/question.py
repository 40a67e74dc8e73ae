"""One question of a user, with all its expressions: they are matched as `re` matches them, and by one deadline.

Plain names are looked up, simple expressions are matched here, and whatever could take long in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from lora_backend.errors import ExpressionError
from lora_backend.expressions.apart import Ask, answer_apart
from lora_backend.expressions.cost import Names, most_steps
from lora_backend.expressions.endings import Endings
from lora_backend.expressions.matching import KEY, LAYERS, Answer, answer
from lora_backend.expressions.remembered import digest, is_known_slow, keep_answer, keep_slow, known_answer
from lora_backend.i18n import N_

LIMIT_S = 2.0
"""For all expressions of a question together, compiling included."""
STEPS_HERE = 5_000_000.0
"""Steps of a matcher, at the very most, that a question may take in this process: some tens of milliseconds."""
SHARE_OF_ONE = 0.25
"""An expression that took as much of the time as this is named as the one that is too slow."""


@dataclass
class _Found:
    """What is known of one expression."""

    known: frozenset[str]
    hits: dict[str, str]
    """Names that match; of a `layers` expression with the number behind it."""
    fault: str | None = None


@dataclass(eq=False)
class _Pending:
    """An ask of which something is not known yet."""

    ask: Ask
    known: frozenset[str]

    @cached_property
    def digest(self) -> bytes:
        return digest(self.ask.names)


@dataclass(eq=False)
class Question:
    """Holds expressions against names. `prepare` answers many at once; what was not prepared is asked for by itself.

    Every method raises `ExpressionError` once the time is up. A broken expression matches nothing.
    """

    limit_s: float = LIMIT_S
    _left_s: float = field(init=False)
    _left_steps: float = STEPS_HERE
    _found: dict[tuple[str, str], _Found] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._left_s = self.limit_s

    def prepare(self, *asks: tuple[str, Iterable[str], Iterable[str]]) -> None:
        """Answer for each of `asks` (form, expressions, names) every expression on every name."""
        began = time.monotonic()
        hard = []
        try:
            for form, patterns, names in asks:
                pending = self._unanswered(form, patterns, names)
                if pending is not None and (rest := self._answer_here(pending, began)):
                    hard += [(pending, pattern) for pattern in rest]
            if hard:
                self._answer_apart(hard, began)
        finally:
            self._left_s -= time.monotonic() - began

    def matches(self, form: str, pattern: str, name: str) -> bool:
        """Whether PEFT would take `pattern` for the module `name`."""
        return name in self._asked(form, pattern, name).hits

    def matches_any(self, form: str, pattern: str, names: frozenset[str]) -> bool:
        """Whether PEFT would take `pattern` for one of `names`."""
        self.prepare((form, (pattern,), names))
        return not names.isdisjoint(self._found[form, str(pattern)].hits)

    def first_matches(self, patterns: Iterable[str], names: Iterable[str]) -> dict[str, str]:
        """Name → the first of the `rank_pattern` keys `patterns` that matches; without the names that none matches."""
        patterns, names = tuple(patterns), frozenset(names)
        self.prepare((KEY, patterns, names))
        first: dict[str, str] = {}
        for pattern in patterns:
            for name in self._found[KEY, str(pattern)].hits:
                if name in names:
                    first.setdefault(name, pattern)
        return first

    def layer_number(self, pattern: str, name: str) -> int | None:
        """The number that PEFT reads behind a `layers_pattern`."""
        found = self._asked(LAYERS, pattern, name).hits.get(name)
        return None if found is None else int(found)

    def fault(self, form: str, pattern: str) -> str | None:
        """What keeps `pattern` from compiling, in the words of `re`."""
        return self._asked(form, pattern).fault

    def _asked(self, form: str, pattern: str, name: str | None = None) -> _Found:
        found = self._found.get((form, str(pattern)))
        if found is None or not (name is None or name in found.known):
            self.prepare((form, (pattern,), () if name is None else (name,)))
            found = self._found[form, str(pattern)]
        return found

    def _unanswered(self, form: str, patterns: Iterable[str], names: Iterable[str]) -> _Pending | None:
        ordered = tuple(dict.fromkeys(names))
        wanted = frozenset(ordered)
        new = []
        for pattern in dict.fromkeys(map(str, patterns)):
            found = self._found.get((form, pattern))
            if found is None or not wanted <= found.known:
                if is_known_slow(pattern):
                    raise _too_slow(pattern)
                new.append(pattern)
        return _Pending(Ask(form, tuple(new), ordered), wanted) if new else None

    def _answer_here(self, pending: _Pending, began: float) -> list[str]:
        """Answer what is plain or simple; returns the rest."""
        form, patterns, names = pending.ask
        figures, endings, rest = _figures(names), Endings(names), []
        for number, pattern in enumerate(patterns):
            if number % 64 == 0 and time.monotonic() - began >= self._left_s:
                raise _too_slow(None)
            if (hits := endings.find(form, pattern)) is not None:
                self._keep(pending, pattern, (hits, None, None))
            elif (steps := most_steps(form, pattern, figures)) <= self._left_steps:
                self._left_steps -= steps
                self._keep(pending, pattern, answer(form, pattern, names))
            else:
                rest.append(pattern)
        return rest

    def _answer_apart(self, hard: list[tuple[_Pending, str]], began: float) -> None:
        unknown: dict[_Pending, list[str]] = {}
        for pending, pattern in hard:
            if (known := known_answer(pending.ask.form, pattern, pending.digest)) is not None:
                self._keep(pending, pattern, known)
            else:
                unknown.setdefault(pending, []).append(pattern)
        if not unknown:
            return
        left_s = self._left_s - (time.monotonic() - began)
        outcome = answer_apart([key.ask._replace(patterns=tuple(new)) for key, new in unknown.items()], left_s)
        wanted = [(pending, pattern) for pending, new in unknown.items() for pattern in new]
        for (pending, pattern), found in zip(wanted, outcome.answers, strict=False):
            self._keep(pending, pattern, found)
            keep_answer(pending.ask.form, pattern, pending.digest, found)
        if len(outcome.answers) == len(wanted):
            return
        if not outcome.has_started or outcome.slowest_s < self.limit_s * SHARE_OF_ONE:
            raise _too_slow(None)
        slowest = wanted[outcome.slowest][1]
        keep_slow(slowest)
        raise _too_slow(slowest)

    def _keep(self, pending: _Pending, pattern: str, found: Answer) -> None:
        (indices, numbers, fault), names, known = found, pending.ask.names, pending.known
        hits = dict(zip((names[index] for index in indices), numbers or [""] * len(indices), strict=True))
        earlier = self._found.get((pending.ask.form, pattern))
        if earlier is not None:
            known, hits = known | earlier.known, earlier.hits | hits
        self._found[pending.ask.form, pattern] = _Found(known, hits, fault)


def _figures(names: tuple[str, ...]) -> Names:
    return Names(
        len(names) or 1,  # compiling alone is work too
        max(map(len, names), default=0),
        max((name.count(".") for name in names), default=0),
    )


def _too_slow(pattern: str | None) -> ExpressionError:
    """About one expression, or None: about all of them."""
    if pattern is None:
        return ExpressionError(
            N_("The expressions take too long together. Use fewer of them, or list modules by name."), pattern=None
        )
    return ExpressionError(
        N_("The expression {shown} takes too long. Simplify it: avoid nested repeats such as `(a+)+`."),
        pattern=pattern,
    )
