"""The tools whose configs are known, and which one wrote a file: told by its keys, never by its name."""

from __future__ import annotations

from collections.abc import Iterable

from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.foreign import (
    axolotl,
    llamafactory,
    llamafactory_v1,
    original,
    peft,
    training_arguments,
    trl,
    unsloth,
)
from lora_backend.config.foreign.flat_source import flat, names_in
from lora_backend.config.foreign.key_mapping import Tool
from lora_backend.config.schema import KEYS
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, Message, in_code

TOOLS: dict[str, Tool] = {
    tool.id: tool
    for tool in (
        original.TOOL, llamafactory.TOOL, llamafactory_v1.TOOL, axolotl.TOOL, unsloth.TOOL, trl.TOOL, peft.TOOL, training_arguments.TOOL,
    )
}  # fmt: skip
"""Tool by id, in the order in which the documentation shows them."""
WRITERS = {"peft": peft, "llamafactory": llamafactory, "axolotl": axolotl}
"""Tools that we can write a file for, by id."""
FEW_STRAYS = 3
"""Keys of another tool that a config of ours may hold and still be one with mistakes, each to be settled by itself."""
INSIDE = {"llamafactory", "trl"}
"""Tools whose configs hold those of TrainingArguments as well."""


class TwoToolsError(ConfigError):
    """A file that holds keys of two tools, so that it is no one's."""


def recognise(document: ConfigDocument) -> Tool:
    """The tool whose keys stand in the document.

    Raises `ConfigError` where there are none of a known tool, or those of two. A single stray key makes no second
    tool of a file that has many of the first; it gets its row as an unknown one.
    """
    found = {tool.id: tool.markers & flat(document, tool.sections)[0].keys() for tool in TOOLS.values()}
    if any(found[tool_id] for tool_id in found if tool_id != "original"):
        found["original"] = found["original"] - KEYS.keys()  # ours in another tool's file are kept as they are
    if found["llamafactory_v1"]:  # its own keys are no other's, but others' keys are its own as well
        found = {
            tool_id: keys if tool_id == "llamafactory_v1" else keys - TOOLS["llamafactory_v1"].rules.keys()
            for tool_id, keys in found.items()
        }
    ranked = sorted((tool_id for tool_id in found if found[tool_id]), key=lambda tool_id: -len(found[tool_id]))
    if INSIDE & set(ranked):  # whoever has one of theirs, has TrainingArguments by right
        ranked = [tool_id for tool_id in ranked if tool_id != "training_arguments"]
    if not ranked:
        raise ConfigError(
            N_("The file is not a config of a tool that can be imported ({tools}): it has none of their keys."),
            tools=", ".join(tool.title for tool in TOOLS.values()),
        )
    first = ranked[0]
    if first == "training_arguments" and any(key in trl.RULES for key in document.values if key.startswith("lora_")):
        return TOOLS["trl"]
    if len(ranked) > 1:
        second = ranked[1]
        if len(found[second]) > 1 or len(found[first]) < 3:
            raise TwoToolsError(
                N_(
                    "The file mixes keys of {first} ({first_keys}) and of {second} ({second_keys}). Split it, or remove the keys of one."
                ),
                first=TOOLS[first].title,
                first_keys=_in_order(document, found[first]),
                second=TOOLS[second].title,
                second_keys=_in_order(document, found[second]),
            )
    return TOOLS[first]


def is_foreign(document: ConfigDocument) -> bool:
    """Whether a config was written for another tool.

    One that names its model as ours do is ours, with its mistakes and strays: what the check can rename needs no
    conversion. It is the original tool's only where it holds what has no name here, or more than a few of its keys.
    """
    values = document.values
    if not document.is_readable or not values:
        return False
    if "model_name" in values:
        rules = TOOLS["original"].rules
        old = [key for key in values if key in rules and key not in KEYS]
        return len(old) > FEW_STRAYS or any(key in TOOLS["original"].markers and not rules[key].targets for key in old)
    known = sum(key in KEYS for key in values)
    return any(len(tool.rules.keys() & names_in(values, tool.sections)) > known for tool in TOOLS.values())


def _in_order(document: ConfigDocument, keys: Iterable[str]) -> Message:
    """The first keys, as they stand in the file."""
    places = {key: place for place, key in enumerate(document.values)}
    ordered = sorted(keys, key=lambda key: places[key if key in places else key.split(".", maxsplit=1)[0]])
    return in_code(ordered[:5] + (["…"] if len(ordered) > 5 else []))
