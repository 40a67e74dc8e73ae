"""The schema as JSON Schema, with which editors complete and check a config while it is written."""

from __future__ import annotations

import json
from typing import Any

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
    unit = f" [{key.unit}]" if key.unit else ""
    rest = {
        word: value for word, value in made.items() if word not in ("title", "description", "group", "unit", "common")
    }
    # An editor shows `title` as the heading of what it completes.
    title = f"{name} ({translate(GROUPS[key.group], language)})"
    return {"title": title, "description": f"{translate(key.help, language)}{unit}", **rest}


def json_schema_text(language: str = "en") -> str:
    """What stands in docs/config.schema.json."""
    return json.dumps(config_json_schema(language), ensure_ascii=False, indent=2) + "\n"
