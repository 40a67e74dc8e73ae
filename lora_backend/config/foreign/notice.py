"""The one finding of a config that is another tool's, or that is full of another tool's keys: whose it is, and the way here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.diff import same_value
from lora_backend.config.findings import Finding, Fix
from lora_backend.config.foreign.converting import Conversion, convert
from lora_backend.config.foreign.key_mapping import Tool
from lora_backend.config.foreign.key_meanings import OURS, known_tools, meaning, plain_name
from lora_backend.config.foreign.tools import FEW_STRAYS, TOOLS, TwoToolsError, is_foreign
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.rules.file_rules import FOREIGN_CONFIG
from lora_backend.config.schema import KEYS
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, Message, Plural, in_code

FOREIGN = FOREIGN_CONFIG.code
ONE_TOOL = N_("Then convert it; on the command line: `python -m lora_backend import FILE`.")
NO_TOOL = N_("Name a training config, or start from a preset on the Config page.")


@dataclass(frozen=True)
class Notice:
    """`finding` stands for all that could be said of each of the keys in `covers`."""

    finding: Finding
    covers: Collection[str]
    is_whole: bool
    """Whether the file is another tool's, so that its keys are none of ours even where they are called so."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What the file means here, as far as that can be told."""


def notice_of(document: ConfigDocument) -> Notice | None:
    """What there is to say of a file of another tool, or of one with more than a few keys of others; None else."""
    foreign = is_foreign(document)
    strays = [key for key in document.values if plain_name(key) not in KEYS and meaning(key, document.values)]
    if not foreign and len(strays) <= FEW_STRAYS:
        return None
    covers = set(document.values) if foreign else set(strays)
    first = next((key for key in document.values if key not in KEYS), None)
    line = document.lines.get(first) if first else None
    try:
        made = convert(document)
    except ConfigError as error:
        remedy = Message(ONE_TOOL if isinstance(error, TwoToolsError) else NO_TOOL)
        return Notice(FOREIGN_CONFIG.found_on(line, first, sentence=error.message, remedy=remedy), covers, foreign)
    if not _conversion(document.values, made).changes:
        made = convert(document, OURS)  # one of ours by now, with what is left of the keys of others
    fix = _conversion(document.values, made)
    if not fix.changes:
        return None
    if made.tool is OURS:
        covers = {key for key in document.values if key not in KEYS} if foreign else set(strays)
        message = _mixture(strays, foreign)
    else:
        message = None
    finding = FOREIGN_CONFIG.found_on(line, first, {"title": made.tool.title}, fix, sentence=message)
    return Notice(finding, covers, made.tool is not OURS, made.values)


def _mixture(strays: list[str], foreign: bool) -> Message:
    """Whose keys stand among ours: of the tool that has most of them; in a file of nobody's, of any."""
    if foreign:
        said: dict[str, Any] = {"count": len(strays), "keys": _first_few(strays)}
        return Message(
            Plural(
                "This config has {count} key of other tools: {keys}.",
                "This config has {count} keys of other tools: {keys}.",
            ),
            said,
        )
    tool = max(TOOLS.values(), key=lambda tool: _count(tool, strays))
    theirs = [key for key in strays if tool in known_tools(plain_name(key))]
    said = {"count": len(theirs), "title": tool.title, "keys": _first_few(theirs)}
    return Message(
        Plural("This config has {count} key of {title}: {keys}.", "This config has {count} keys of {title}: {keys}."),
        said,
    )


def _first_few(names: list[str]) -> Message:
    return in_code([*names[:5], *(["…"] if len(names) > 5 else [])])


def _count(tool: Tool, strays: list[str]) -> int:
    return sum(plain_name(key) in tool.rules for key in strays)


def _conversion(values: Mapping[str, Any], made: Conversion) -> Fix:
    """The whole import as one fix; a None stays where it stands, and is not written where it does not."""
    changes: dict[str, Any] = {key: DELETE for key in values if key not in made.values}
    changes |= {
        key: value
        for key, value in made.values.items()
        if value is not None and not (key in values and same_value(values[key], value))
    }
    lost = sum(row.outcome == "not_supported" for row in made.rows)
    said = {"count": len(made.rows) - lost, "lost": lost}
    label = (
        Plural("Convert ({count} key kept, {lost} left out)", "Convert ({count} keys kept, {lost} left out)")
        if lost
        else Plural("Convert ({count} key kept)", "Convert ({count} keys kept)")
    )
    return Fix(Patch(changes), Message(label, said))
