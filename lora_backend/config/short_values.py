"""A config's value in one line: a long map by what is in it, for a diff or a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lora_backend.config.findings import shorten
from lora_backend.i18n import N_, Message, Plural

FOLD_ABOVE = 8
"""Entries of a map up to which each is shown by itself."""
_BLOCK = re.compile(r"(?:.*\.)?\d+")


def in_short(key: str, value: Any, limit: int = 80, language: str | None = None) -> str:
    """A value as it would be written, cut at `limit` characters; a long map as `80 blocks on 3 GPUs`."""
    summary = map_summary(key, value)
    return shorten(value, limit) if summary is None else summary.text(language)


def map_summary(key: str, value: Any) -> Message | None:
    """What is in a map of more than `FOLD_ABOVE` entries; None for all other values."""
    if not isinstance(value, Mapping) or len(value) <= FOLD_ABOVE:
        return None
    if key != "device_map":
        return Message(Plural("{count} entry", "{count} entries"), {"count": len(value)})
    places = {str(place).lower() for place in value.values()}
    num_blocks = sum(_BLOCK.fullmatch(str(name)) is not None for name in value)
    are_gpus = not places & {"cpu", "disk"}
    blocks, modules = Plural("{count} block", "{count} blocks"), Plural("{count} module", "{count} modules")
    parts = Message(blocks if num_blocks else modules, {"count": num_blocks or len(value)})
    gpus, devices = Plural("{count} GPU", "{count} GPUs"), Plural("{count} device", "{count} devices")
    on = Message(gpus if are_gpus else devices, {"count": len(places)})
    return Message(N_("{parts} on {devices}"), {"parts": parts, "devices": on})
