"""Keys that are none of ours: another tool's name for one, a slip of the finger, or a key of nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from lora_backend.config.accepted_values import takes
from lora_backend.config.findings import Finding, Fix
from lora_backend.config.fix_offers import change, lines_of, remove, rename
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import Carried
from lora_backend.config.foreign.key_meanings import INFORMAL, OURS, meaning, plain_name, targets_of
from lora_backend.config.foreign.reasons import DISTRIBUTED
from lora_backend.config.foreign.tools import TOOLS
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.rules import ConfigView
from lora_backend.config.rules.file_rules import CACHE_WITH_CHECKPOINTING, UNKNOWN_KEY
from lora_backend.config.schema import KEYS
from lora_backend.config.spelling import is_slip, nearest
from lora_backend.config.yaml_traps import NO_BREAK_SPACES
from lora_backend.i18n import N_, Message


def unknown_key(config: ConfigView, key: str, *, guess: bool) -> Finding:
    """What to do about a key that is not in the schema; `guess`: the nearest name may be looked for."""
    message = None
    if plain_name(key) == "use_cache":
        return _cache(config, key)
    if odd := next((char for char in key if char in NO_BREAK_SPACES), None):
        values = {"key": key, "code": f"U+{ord(odd):04X}"}
        message = Message(
            N_("`{key}` is not a key of a training config: it contains a no-break space ({code})."), values
        )
    carried = meaning(key, config.values)
    if carried is not None:
        return _known(config, key, carried, message)
    near = _nearest(plain_name(key)) if guess else None
    if near is None:
        return UNKNOWN_KEY.found(config, key, {"key": key}, remove(key), sentence=message)
    remedy = Message(N_("Did you mean `{near}`? Rename the key, or remove the line."), {"near": near})
    theirs = None if near in KEYS else meaning(near, {**config.values, near: config.values[key]})
    if theirs is not None and theirs.target_key is not None:
        said = {"near": near, "lines": lines_of({theirs.target_key: theirs.target_value})}
        remedy = Message(N_("Did you mean `{near}`? Here that is {lines}. Write it instead, or remove the line."), said)
    fixes = []
    if near in KEYS and is_slip(plain_name(key), near, _words()):
        fixes = _renamed(config, key, {near: config.values[key]})
    return UNKNOWN_KEY.found(config, key, {"key": key}, *fixes, sentence=message, remedy=remedy)


def _cache(config: ConfigView, key: str) -> Finding:
    on = config.values.get("gradient_checkpointing") is True
    rule = CACHE_WITH_CHECKPOINTING if on else UNKNOWN_KEY
    return rule.found(config, key, None, remove(key), sentence=CACHE_WITH_CHECKPOINTING.sentence)


def _known(config: ConfigView, key: str, carried: Carried, message: Message | None) -> Finding:
    """What another tool calls it, or ours in other letters."""
    fixes: list[Fix]
    targets = targets_of(key)
    if carried.target_key is not None:
        means = _with_the_key_in_its_place(config, {carried.target_key: carried.target_value})
        said = {"near": carried.target_key, "lines": lines_of(means)}
        remedy = Message(N_("Here it is `{near}`. Write {lines} instead."), said)
        fixes = _renamed(config, key, means)
    elif carried.outcome == "taken" or not targets or carried.message.template == DISTRIBUTED:
        remedy = Message(N_("{meaning} Remove the line."), {"meaning": carried.message})
        fixes = [remove(key)]
    else:
        remedy = carried.message
        fixes = [_keep(config, key, targets)] if config.values.keys() >= set(targets) else []
    if fixes:
        fixes[0] = _with_what_hangs_on_it(config, key, fixes[0])
    return UNKNOWN_KEY.found(config, key, {"key": key}, *fixes, sentence=message, remedy=remedy)


def _with_what_hangs_on_it(config: ConfigView, key: str, fix: Fix) -> Fix:
    """The same, and other tools' keys settled with it that would mean something else without `key`.

    A `rank` beside `world_size` is no rank any more once that one is gone.
    """
    after = fix.changes.applied_to(config.values)
    changes = dict(fix.changes)
    for other in config.values:
        if other == key or other in KEYS:
            continue
        now, then = meaning(other, config.values), meaning(other, after)
        if now is None or then is None or _says(now) == _says(then):
            continue
        changes[other] = DELETE
        if now.target_key is not None and now.target_key not in config.values:
            changes.setdefault(now.target_key, now.target_value)
    return fix if changes.keys() == fix.changes.keys() else change(config.values, changes)


def _says(carried: Carried) -> tuple[object, ...]:
    return carried.target_key, repr(carried.target_value), carried.outcome


def _with_the_key_in_its_place(config: ConfigView, means: dict[str, Any]) -> dict[str, Any]:
    """`means`, and what a key of ours in its place says, where that means something else beside the other tool's."""
    for name in tuple(means):
        if name in config.values and (rule := OURS.rule(name)) is not None:
            moved = rule.apply(Source(config.values), name)
            if moved.target_key not in (None, name):
                means[str(moved.target_key)] = moved.target_value
    return means


def _renamed(config: ConfigView, key: str, means: Mapping[str, Any]) -> list[Fix]:
    """Put `means` in the place of `key`, or remove it; none where the value does not carry over.

    A key of ours that is there already wins, unless it is asked to go.
    """
    if not all(takes(*pair) for pair in means.items()):
        return []
    there = {name: config.values[name] for name in means if name in config.values}
    if not there:
        return [rename(key, config.values[key], means), remove(key)]
    keep = _keep(config, key, there)
    if there == means:
        return [keep]
    said = {"kept": lines_of(there), "lines": lines_of(means)}
    replace = Fix(Patch({key: DELETE, **means}), Message(N_("Replace {kept} with {lines}"), said))
    return [replace, keep] if len(means) > len(there) else [keep, replace]


def _keep(config: ConfigView, key: str, kept: Iterable[str]) -> Fix:
    """Take `key` out for keys of ours that say it already."""
    said = {"key": key, "kept": lines_of({name: config.values[name] for name in kept})}
    return Fix(Patch({key: DELETE}), Message(N_("Remove `{key}` (keeps {kept})"), said))


@lru_cache(maxsize=64)
def _nearest(name: str) -> str | None:
    """Ours that looks like it, unless a key of another tool looks more like it."""
    ours = nearest(name, KEYS)
    theirs = nearest(name, _of_others(), cutoff=0.85)
    if ours is None or theirs is None:
        return ours or theirs
    return nearest(name, (ours, theirs))


@lru_cache(maxsize=1)
def _of_others() -> tuple[str, ...]:
    return tuple(sorted({key for tool in TOOLS.values() for key in tool.rules if key not in KEYS} | INFORMAL.keys()))


@lru_cache(maxsize=1)
def _words() -> frozenset[str]:
    """Every word that occurs in a key of a known tool, or in one of ours."""
    return frozenset(word for name in (*KEYS, *_of_others()) for word in name.replace(".", "_").split("_"))
