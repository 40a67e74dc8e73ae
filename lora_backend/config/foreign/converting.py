"""A config of another tool → ours, with a row for every key: nothing is dropped without a word."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.diff import same_value
from lora_backend.config.findings import shorten
from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.evaluation import settled
from lora_backend.config.foreign.flat_source import Source, flat
from lora_backend.config.foreign.key_mapping import Carried, Tool, keep
from lora_backend.config.foreign.key_meanings import renamed, tool_of
from lora_backend.config.foreign.outcomes import HIDDEN, ImportRow, is_secret
from lora_backend.config.foreign.tools import TOOLS, is_foreign
from lora_backend.config.schema import KEYS
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, Message

MOST_GUESSED = 100
"""Keys of a file in which the nearest name is looked for; one with more is a config of something else."""


@dataclass(frozen=True)
class Conversion:
    """What a document comes to here."""

    tool: Tool
    rows: tuple[ImportRow, ...]
    """One for each key of the file."""
    assumed: tuple[ImportRow, ...]
    """Defaults of the tool that the file does not write, where ours are other ones."""
    values: dict[str, Any]


def convert(document: ConfigDocument, tool: Tool | None = None) -> Conversion:
    """The values that a document means here, as a config of `tool`, else of the one that it is told to be by its keys.

    Raises `ConfigError` where it is of no known tool, or of two.
    """
    tool = tool or tool_of(document)
    written, lines = flat(document, tool.sections)
    source = Source(written, lines, tool.defaults(written))
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    ours_first = sorted(written, key=lambda key: not _is_ours(tool, key))
    made = {key: _row(tool, source, key, values, origin) for key in ours_first}
    said = {row.key for row in made.values() if row.outcome == "not_supported"}
    unwritten = [key for key in source.defaults if written.get(key) is None and key not in said]
    found = [_assumed(tool, source, key, values, origin) for key in unwritten]
    rows, assumed = settled([made[key] for key in written], [row for row in found if row], tool, values)
    ordered = {key: values[key] for key in (*KEYS, *values) if key in values}
    return Conversion(tool, rows, assumed, ordered)


def _is_ours(tool: Tool, key: str) -> bool:
    """Whether a key of the file is one of ours and means nothing else to the tool."""
    return key in KEYS and (tool.id in ("original", "ours") or tool.rule(key) is None)


def _row(tool: Tool, source: Source, key: str, values: dict[str, Any], origin: dict[str, str]) -> ImportRow:
    """What becomes of one key of the file; its target goes into `values`, and whose it is into `origin`."""
    rule = tool.rule(key)
    if rule is None and _is_ours(tool, key):
        rule = keep(key)
    carried = rule.apply(source, key) if rule else _unknown(tool, source, key)
    ours = {} if carried.target_key is None else {carried.target_key: carried.target_value, **carried.also}
    taken = next((name for name, value in ours.items() if name in values and not same_value(values[name], value)), None)
    if taken is not None:
        carried = Carried(
            "not_supported",
            Message(
                N_("`{target}` is already set to {ours} by `{other}`."),
                {"target": taken, "ours": shorten(values[taken]), "other": origin[taken]},
            ),
        )
    else:
        new = {name: value for name, value in ours.items() if name not in values}
        values |= new
        origin |= dict.fromkeys(new, key)
    value = HIDDEN if is_secret(key) and source.values[key] is not None else source.values[key]
    return ImportRow(
        key, value, source.lines.get(key), carried.outcome, carried.target_key, carried.target_value, carried.message,
        carried.also,
    )  # fmt: skip


def _assumed(tool: Tool, source: Source, key: str, values: dict[str, Any], origin: dict[str, str]) -> ImportRow | None:
    """A default of the tool that is not ours, or that means something that is not done here; None for the others."""
    rule = tool.rule(key)
    if rule is None or set(rule.targets) & values.keys():
        return None
    carried = rule.apply(source, key)
    target = carried.target_key
    if carried.outcome != "not_supported":
        if target is None or same_value(KEYS[target].default, carried.target_value):
            return None
        values[target], origin[target] = carried.target_value, key
    default = source.defaults[key]
    said = {"key": key, "title": tool.title, "value": shorten(default), "meaning": carried.message}
    message = Message(rule.unwritten, said)
    return ImportRow(key, default, None, carried.outcome, target, carried.target_value, message)


def _unknown(tool: Tool, source: Source, key: str) -> Carried:
    """A key that nobody knows stays in the config, where the check says what to do about it; a secret does not."""
    if is_secret(key):
        return Carried("unknown", Message(why.SECRET))
    values = {"title": tool.title, "key": key}
    others = [other.title for other in TOOLS.values() if other.id != tool.id and key in other.markers]
    if others:
        message = Message(
            N_("This is a {other} key, not a known {title} key. It stays in the config, marked as an error."),
            {**values, "other": others[0]},
        )
    elif len(source.values) <= MOST_GUESSED and (near := difflib.get_close_matches(key, tool.rules, n=1, cutoff=0.8)):
        message = Message(
            N_("Not a known {title} key. It stays in the config, marked as an error. Did you mean `{near}`?"),
            {**values, "near": near[0]},
        )
    else:
        message = Message(N_("Not a known {title} key. It stays in the config, marked as an error."), values)
    return Carried("unknown", message, key, source.values[key])


def values_to_compare(document: ConfigDocument) -> dict[str, Any]:
    """What a config says under our names where it has one here, with the defaults of its tool, and all else as it stands."""
    made = None
    if document.is_readable and is_foreign(document):
        with suppress(ConfigError):  # of two tools: a check says so
            made = convert(document)
    if made is None:
        return {key: value for key, (_, value) in renamed(document.values).items()}
    left = {row.key: row.value for row in made.rows if row.outcome == "not_supported" and row.key not in KEYS}
    return {**made.values, **left}
