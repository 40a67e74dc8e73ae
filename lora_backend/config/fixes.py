"""Apply a finding's fix to values or to a YAML text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.config_text import with_values
from lora_backend.config.schema import REQUIRED


def fixed_values(values: Mapping[str, Any], fix: Mapping[str, Any]) -> dict[str, Any]:
    """`values` after a fix: keys set, or taken out where the fix says None."""
    return {key: value for key, value in {**values, **fix}.items() if not (key in fix and value is None)}


def with_fix(text: str, fix: Mapping[str, Any]) -> str:
    """YAML `text` after a fix, everything else as it was written. Raises `ConfigError` for a text that cannot be read."""
    return with_values(text, {key: REQUIRED if value is None else value for key, value in fix.items()})
