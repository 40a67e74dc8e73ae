"""The expressions of a config: all of a check are matched at once, and one that takes too long is an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_backend.config.findings import Finding, shorten
from lora_backend.config.rules.base import ConfigView, Facts
from lora_backend.errors import ExpressionError
from lora_backend.expressions.matching import KEY, SAVED, WHOLE
from lora_backend.i18n import N_, Message

FORMS = {"target_modules": WHOLE, "rank_pattern": KEY, "alpha_pattern": KEY, "modules_to_save": SAVED}
"""Keys that PEFT reads expressions from; `target_modules` only where it is a text."""
PATTERNS = ("rank_pattern", "alpha_pattern")
MANY_CHECKS = 200_000
"""Patterns times names; more would take seconds, and a config with that many was not written by hand."""
MANY_PATTERNS = 200
"""Each is held against each."""


def expressions_of(config: ConfigView, key: str) -> tuple[str, ...]:
    """The expressions that stand under `key`; none where its value is wrong by itself."""
    value = None if key in config.invalid else config.get(key)
    if key == "target_modules":
        return (value,) if isinstance(value, str) and value.lower() != "all-linear" else ()
    return tuple(value) if isinstance(value, Mapping | list) else ()


def is_asked_of_model(config: ConfigView, key: str, facts: Facts) -> bool:
    """Whether the expressions of `key` are held against the model's names."""
    return bool(facts.linear_names) and len(expressions_of(config, key)) * len(facts.linear_names) <= MANY_CHECKS


def names_for(key: str, facts: Facts) -> tuple[str, ...]:
    """The model's names that the expressions of `key` are held against."""
    of_tree = () if facts.tree is None else facts.tree.names
    return (*facts.linear_names, *(facts.outer_modules if key in PATTERNS else ()), *of_tree)


def too_slow(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """Match all that the rules will ask of; says so where the time does not suffice, and then no rule may ask."""
    if config.expressions is None:
        return
    asks: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
    for key, form in FORMS.items():
        patterns = expressions_of(config, key)
        asks += [(WHOLE, patterns, ()), (form, patterns, ())]  # whether it compiles, alone and as PEFT puts it
        if key in PATTERNS:
            asks.append((form, patterns[:MANY_PATTERNS], patterns[:MANY_PATTERNS]))
        if is_asked_of_model(config, key, facts):
            asks.append((form, patterns, names_for(key, facts)))
    try:
        config.expressions.prepare(*asks)
    except ExpressionError as error:
        yield from _findings(config, error)


def _findings(config: ConfigView, error: ExpressionError) -> Iterator[Finding]:
    for key in FORMS:
        patterns = expressions_of(config, key)
        values = {"key": key, "pattern": shorten(error.pattern), "count": len(patterns)}
        if error.pattern in patterns:
            yield config.finding(
                "error",
                "expression_too_slow",
                key,
                Message(N_("The expression {pattern} in `{key}` takes too long."), values),
                Message(N_("Simplify it: avoid nested repeats such as `(a+)+`.")),
            )
        elif error.pattern is None and patterns:
            yield config.finding(
                "error",
                "expression_too_slow",
                key,
                Message(N_("The expressions of `{key}` ({count}) take too long together."), values),
                Message(N_("Use fewer of them, or list modules by name.")),
            )
