"""The draft that an address names beside other things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import open_draft
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_
from pages.parts.shell import addresses
from pages.parts.shell.services import installation


def values_of_draft(params: Mapping[str, str]) -> Mapping[str, Any] | None:
    """What the draft says; None where the address names none. Raises `ConfigError` where it is not there or cannot be read."""
    if addresses.DRAFT not in params:
        return None
    document = parse_config(open_draft(installation().drafts, params[addresses.DRAFT]).text())
    if not document.is_readable:
        raise ConfigError(N_("The draft cannot be read: {reason}"), reason=document.problems[0].message)
    return document.values
