"""How one key of another tool becomes ours: rules that are data, each with the words that the documentation shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_backend.config.accepted_values import LARGEST, takes
from lora_backend.config.diff import same_value
from lora_backend.config.expected import expected
from lora_backend.config.findings import shorten
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.outcomes import ImportOutcome
from lora_backend.config.foreign.reasons import FULL, METHOD
from lora_backend.config.key_queries import names_in
from lora_backend.config.options import why_not_here
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, Message

UNSET: Any = object()
"""Stands for “no value”, since None is one."""
TAKEN = N_("Becomes `{target}`.")
SAME = N_("The same here.")
UNWRITTEN = N_("`{key}` is not in the file, so {title} uses {value}. {meaning}")


@dataclass(frozen=True)
class Carried:
    """What became of one key; without a target nothing had to be, or could be, carried."""

    outcome: ImportOutcome
    message: Message
    target_key: str | None = None
    target_value: Any = None
    also: Mapping[str, Any] = field(default_factory=dict)
    """Other keys of ours that say a part of it."""


Apply = Callable[[Source, str], Carried]


@dataclass(frozen=True)
class Rule:
    """`apply` says what becomes of a key in a source; `targets` and `note` say it for any value, to readers."""

    apply: Apply
    targets: tuple[str, ...] = ()
    note: str = TAKEN
    unwritten: str = UNWRITTEN
    """What a key that is not in the file is introduced with."""


@dataclass(frozen=True)
class Tool:
    """Another tool's config: by which keys it is known, and what becomes of each key."""

    id: str
    title: str
    markers: frozenset[str]
    """Keys that no other tool's config has."""
    rules: Mapping[str, Rule]
    defaults: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Values of a file → what the tool takes for keys that are not there, as far as it changes the training."""
    sections: frozenset[str] = field(default_factory=frozenset)
    also: Callable[[str], Rule | None] = lambda key: None
    """A rule for a key that is in no list."""

    def rule(self, key: str) -> Rule | None:
        return self.rules.get(key) or self.also(key)


def keys(text: str) -> frozenset[str]:
    """Names, as they stand in one text."""
    return frozenset(text.split())


# ------------------------------------------------------------------------------------------- values


def coerced(target: str, value: Any) -> Any:
    """The value as our key takes it, where only its spelling differs (`"2e-4"`, `3.0`, `yes`), else `UNSET`."""
    candidates = [value]
    if isinstance(value, str):
        candidates += [
            {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}.get(value.lower(), UNSET)
        ]
        candidates += [number(value)]
    candidates += [int(item) for item in candidates if isinstance(item, float) and item.is_integer()]
    for candidate in candidates:
        if candidate is not UNSET and candidate is not None and takes(target, candidate):
            return candidate
    return UNSET


def number(value: Any) -> float | int | None:
    """The number that a value is or spells; None for all else: bools, and numbers that nothing can be counted with."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float) or not abs(value) <= LARGEST:  # NaN is neither more nor less
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_on(value: Any) -> bool:
    """Whether a switch is on, in the words that YAML 1.1 has for it."""
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "yes", "on", "1"))


def is_off(value: Any, default: Any = UNSET) -> bool:
    """Whether a value asks for nothing: it is the tool's default, or empty."""
    if value is None or (default is not UNSET and same_value(value, default)):
        return True
    if default is not UNSET and default not in (None, False, "", 0, "none", "no"):
        return False  # empty is a choice where the default is not
    is_empty = isinstance(value, bool | int | float | str | list | dict) and not value
    return is_empty or (isinstance(value, str) and value.strip().lower() in ("none", "no", "false", "null", "off"))


# ---------------------------------------------------------------------------------------- outcomes


def nothing(message: str = SAME, **values: Any) -> Carried:
    """Nothing had to be carried."""
    return Carried("taken", Message(message, values))


def lost(message: str, **values: Any) -> Carried:
    """It cannot be carried; the message says what that means."""
    return Carried("not_supported", Message(message, values))


def translated(target: str, value: Any, message: str, **values: Any) -> Carried:
    """Another value that means the same; lost where our key does not take it."""
    ours = coerced(target, value)
    if ours is UNSET:
        return _unfit(target, value)
    return Carried("translated", Message(message, {"target": target, "ours": shorten(ours), **values}), target, ours)


def _unfit(target: str, value: Any) -> Carried:
    reason = why_not_here(target, value)
    if reason:
        return lost(
            N_("{reason} `{target}` stays {ours} here: expect a different result."),
            reason=reason,
            target=target,
            ours=KEYS[target].default,
        )
    return lost(
        N_("`{target}` must be {expected} here; {value} is not carried over."),
        target=target,
        expected=expected(KEYS[target]),
        value=shorten(value),
    )


def as_taken(target: str, value: Any) -> Carried:
    """The value under our key, where the key takes it."""
    ours = coerced(target, value)
    return (
        _unfit(target, value) if ours is UNSET else Carried("taken", Message(TAKEN, {"target": target}), target, ours)
    )


# ------------------------------------------------------------------------------------------- rules


def take(target: str, *, null: bool = False) -> Rule:
    """The value as it is. `null`: None is a value too where our key takes it, and our default is another."""
    takes_null = null and takes(target, None)

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        if value is None and takes_null:
            return Carried("taken", Message(TAKEN, {"target": target}), target, None)
        return nothing(N_("Not set.")) if value is None else as_taken(target, value)

    return Rule(apply, (target,))


def one_to_one(tool: str) -> dict[str, Rule]:
    """A rule for each key of the tool that the schema names as one of ours; those whose values differ replace theirs."""
    return {theirs: take(ours, null=KEYS[ours].default is not None) for ours, theirs in names_in(tool).items()}


def keep(target: str) -> Rule:
    """A key of ours: its value as it stands, also where the check will have something to say of it."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        if value is None and not takes(target, None):
            return nothing(N_("Not set."))
        ours = coerced(target, value)
        return Carried("taken", Message(TAKEN, {"target": target}), target, value if ours is UNSET else ours)

    return Rule(apply, (target,))


def absent(reason: str, default: Any = UNSET) -> Rule:
    """A key that has no counterpart; nothing is lost where it is at its default, or off."""

    def apply(source: Source, key: str) -> Carried:
        if is_off(source.get(key), default):
            return nothing(N_("Off, or at its default: nothing to carry over."))
        return lost(reason)

    return Rule(apply, (), reason)


def expects(reason: str, *allowed: Any) -> Rule:
    """A key that must say what is done here anyway."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        return nothing() if value is None or any(same_value(value, item) for item in allowed) else lost(reason)

    return Rule(apply, (), reason)


def trains_adapter(*adapter: Any, full: tuple[Any, ...]) -> Rule:
    """A key that says what is trained: `adapter` are its words for LoRA, `full` those for the model's own weights."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        if any(same_value(value, word) for word in adapter):
            return nothing()
        return lost(FULL if any(same_value(value, word) for word in full) else METHOD)

    return Rule(apply, (), METHOD)


def mapped(target: str, words: Mapping[Any, Any], note: str) -> Rule:
    """A key whose values have other names; `UNSET` among them means that nothing has to be said."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        if value is None:
            return nothing(N_("Not set."))
        ours = words.get(value) if isinstance(value, str | int | bool) else None
        if ours is UNSET:
            return nothing()
        if ours is not None and same_value(ours, value):
            return as_taken(target, value)
        return _unfit(target, value) if ours is None else translated(target, ours, note)

    return Rule(apply, (target,), note)


def table(reasons: Mapping[str, str | Mapping[str, Any]]) -> dict[str, Rule]:
    """Keys without a counterpart, by their reason: names in one text, or names with their defaults."""
    rules: dict[str, Rule] = {}
    for reason, names in reasons.items():
        defaults = dict.fromkeys(names.split(), UNSET) if isinstance(names, str) else names
        rules |= {name: absent(reason, default) for name, default in defaults.items()}
    return rules
