"""The schema as JSON Schema, with which editors complete and check a config while it is written."""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from lora_backend.config.schema import GROUPS, KEYS, TrainingConfig
from lora_backend.i18n import translate

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_json_schema(language: str = "en") -> dict[str, Any]:
    """JSON Schema (2020-12) of a training config; descriptions in `language`, with unit and group.

    What JSON Schema cannot say (rules across keys) is left to the check.
    """
    made = TrainingConfig.model_json_schema()
    properties = {name: _property(name, made["properties"][name], language) for name in KEYS}
    return {
        "$schema": DIALECT,
        "title": "LoRA Flightdeck training config",
        "type": "object",
        "additionalProperties": False,
        "required": made["required"],
        "properties": properties,
        **({"$defs": made["$defs"]} if "$defs" in made else {}),
    }


def _property(name: str, made: dict[str, Any], language: str) -> dict[str, Any]:
    key = KEYS[name]
    unit = f" [{translate(key.unit, language)}]" if key.unit else ""
    rest = {word: value for word, value in made.items() if word not in ("title", "description")}
    _bound_numbers(rest, key.info.metadata, key.annotation)
    # An editor shows `title` as the heading of what it completes.
    title = f"{name} ({translate(GROUPS[key.group], language)})"
    return {"title": title, "description": f"{translate(key.help, language)}{unit}", **rest}


def _bound_numbers(made: dict[str, Any], metadata: list[Any], annotation: Any) -> None:
    """pydantic leaves the bounds of “int or float” out; one number with its bounds says the same."""
    for item in get_args(annotation)[1:] if get_origin(annotation) is Annotated else ():
        metadata = [*metadata, *(item.metadata if isinstance(item, FieldInfo) else [item])]
    kinds = made.get("anyOf", [])
    if [kind.get("type") for kind in kinds] == ["integer", "number"]:
        del made["anyOf"]
        words = {
            Gt: ("exclusiveMinimum", "gt"),
            Ge: ("minimum", "ge"),
            Lt: ("exclusiveMaximum", "lt"),
            Le: ("maximum", "le"),
        }
        bounds = {words[type(item)][0]: getattr(item, words[type(item)][1]) for item in metadata if type(item) in words}
        made |= {"type": "number", **bounds}
        return
    for kind in kinds:  # a mapping of names to numbers, or none
        inner = next((part for part in get_args(annotation) if get_origin(part) is dict), None)
        if inner is not None and isinstance(kind.get("additionalProperties"), dict):
            _bound_numbers(kind["additionalProperties"], [], get_args(inner)[1])


def json_schema_text(language: str = "en") -> str:
    """What stands in docs/config.schema.json."""
    return json.dumps(config_json_schema(language), ensure_ascii=False, indent=2) + "\n"
