"""Whether every key of another tool's config is accounted for."""

from __future__ import annotations

from typing import Any

from lora_backend.config.config_text import parse_config
from lora_backend.config.diff import same_value
from lora_backend.config.foreign.outcomes import HIDDEN, ImportResult
from lora_backend.config.foreign.tools import TOOLS


def assert_nothing_is_lost(text: str, result: ImportResult) -> None:
    source = parse_config(text)
    sections = TOOLS[result.tool].sections
    wanted: dict[str, Any] = {}
    for key, value in source.values.items():
        inside = value if key in sections and isinstance(value, dict) else None
        wanted |= {key: value} if inside is None else {f"{key}.{name}": item for name, item in inside.items()}
    assert [item.key for item in result.rows] == list(wanted)
    assert parse_config(result.text).values == result.values
    for item in result.rows:
        assert item.message.text("en")
        assert item.value == HIDDEN or same_value(item.value, wanted[item.key])
        if item.target_key is not None:
            assert same_value(result.values[item.target_key], item.target_value)
        if item.outcome == "unknown" and item.value != HIDDEN:
            assert item.target_key == item.key
            assert same_value(item.target_value, wanted[item.key])
    written = {item.target_key for item in (*result.rows, *result.assumed)} | {
        key for item in result.rows for key in item.also
    }
    assert set(result.values) <= written, "nothing comes from nowhere"
