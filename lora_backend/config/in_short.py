"""A config's value in one line: a long map by what is in it, for a diff or a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lora_backend.config.findings import shorten
from lora_backend.i18n import N_, Message

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
        return Message(N_("{count} {count:entry|entries}"), {"count": len(value)})
    places = {str(place).lower() for place in value.values()}
    said = {"count": len(value), "devices": len(places)}
    num_blocks = sum(_BLOCK.fullmatch(str(name)) is not None for name in value)
    are_gpus = not places & {"cpu", "disk"}
    if not num_blocks:
        template = N_("{count} modules on {devices} {devices:GPU|GPUs}") if are_gpus else N_("{count} modules on {devices} {devices:device|devices}")  # fmt: skip
        return Message(template, said)
    template = N_("{count} {count:block|blocks} on {devices} {devices:GPU|GPUs}") if are_gpus else N_("{count} {count:block|blocks} on {devices} {devices:device|devices}")  # fmt: skip
    return Message(template, said | {"count": num_blocks})
