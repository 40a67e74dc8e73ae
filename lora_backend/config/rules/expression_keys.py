"""Rules about the expressions of a config. All of a check are matched at once, and one that takes too long is an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lora_backend.config.findings import Finding, Fix, shorten
from lora_backend.config.key_queries import PATTERN_KEYS
from lora_backend.config.patch import Patch
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, Facts, KeyCheck
from lora_backend.errors import ExpressionError
from lora_backend.expressions.matching import KEY, SAVED, WHOLE
from lora_backend.i18n import N_, Message

FORMS = {"target_modules": WHOLE, **dict.fromkeys(PATTERN_KEYS, KEY), "modules_to_save": SAVED}
"""Keys that PEFT reads expressions from; `target_modules` only where it is a text."""
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
    return (*facts.linear_names, *(facts.outer_modules if key in PATTERN_KEYS else ()), *of_tree)


def too_slow(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """Match all that the rules will ask of; says so where the time does not suffice, and then no rule may ask."""
    if config.expressions is None:
        return
    asks: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
    for key, form in FORMS.items():
        patterns = expressions_of(config, key)
        asks += [(WHOLE, patterns, ()), (form, patterns, ())]  # whether it compiles, alone and as PEFT puts it
        if key in PATTERN_KEYS:
            asks.append((form, patterns[:MANY_PATTERNS], patterns[:MANY_PATTERNS]))
        if is_asked_of_model(config, key, facts):
            asks.append((form, patterns, names_for(key, facts)))
    try:
        config.expressions.prepare(*asks)
    except ExpressionError as error:
        yield from _findings(config, error)


EXPRESSION_TOO_SLOW = Rule(
    "expression_too_slow",
    "error",
    N_("The expression {pattern} in `{key}` takes too long."),
    N_("Simplify it: avoid nested repeats such as `(a+)+`."),
    broken="rank_pattern: {(x+)+y: 8, xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: 16}",
    fixed="rank_pattern: {x+y: 8, xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: 16}",
)


def _findings(config: ConfigView, error: ExpressionError) -> Iterator[Finding]:
    for key in FORMS:
        patterns = expressions_of(config, key)
        values = {"key": key, "pattern": shorten(error.pattern), "count": len(patterns)}
        if error.pattern in patterns:
            yield EXPRESSION_TOO_SLOW.found(config, key, values)
        elif error.pattern is None and patterns:
            yield EXPRESSION_TOO_SLOW.found(
                config,
                key,
                values,
                sentence=N_("The {count} expressions in `{key}` take too long together."),
                remedy=N_("Use fewer of them, or list modules by name."),
            )


NO_EXPRESSION = Rule(
    "no_expression",
    "error",
    N_("`{key}` contains {pattern}, which is not a regular expression: {reason}."),
    N_("Close every bracket, or name modules by the endings of their names."),
    broken="target_modules: '(q'",
    fixed="target_modules: '(q)'",
)


def _expressions(config: ConfigView) -> Iterator[Finding]:
    """PEFT reads a single target, and the keys of both patterns, as regular expressions."""
    if config.expressions is None:
        return
    for key in ("target_modules", *PATTERN_KEYS):
        for pattern in expressions_of(config, key):
            alone, as_used = (config.expressions.fault(form, pattern) for form in (WHOLE, FORMS[key]))
            if alone or as_used:
                values = {"key": key, "pattern": shorten(pattern), "reason": alone or as_used}
                yield NO_EXPRESSION.found(config, key, values)


SHADOWED_PATTERN = Rule(
    "shadowed_pattern",
    "warning",
    N_("`{key}`: {name} is never reached: {earlier} comes before it and matches too."),
    N_("Put {name} before {earlier}."),
    broken="rank_pattern: {q_proj: 8, layers.0.self_attn.q_proj: 16}",
    fixed="rank_pattern: {layers.0.self_attn.q_proj: 16, q_proj: 8}",
)


def _shadowed(config: ConfigView) -> Iterator[Finding]:
    """The first pattern that matches counts, so a name behind a wider pattern is never reached."""
    ask = config.expressions
    if ask is None:
        return
    for key in PATTERN_KEYS:
        patterns: dict[str, Any] = {} if key in config.invalid else config.get(key) or {}
        names = list(patterns)[:MANY_PATTERNS]
        for place, name in enumerate(names):
            earlier = next((other for other in names[:place] if ask.matches(KEY, other, name)), None)
            if earlier is not None:
                values = {"key": key, "name": name, "earlier": earlier}
                yield SHADOWED_PATTERN.found(
                    config,
                    key,
                    values,
                    Fix(
                        Patch(
                            {
                                key: {
                                    name: patterns[name],
                                    **{other: value for other, value in patterns.items() if other != name},
                                }
                            }
                        ),
                        Message(N_("Move {name} to the front"), values),
                    ),
                )


RULES = (EXPRESSION_TOO_SLOW, NO_EXPRESSION, SHADOWED_PATTERN)
CHECKS: tuple[KeyCheck, ...] = (_expressions, _shadowed)
