"""The config that an adapter is held against, whoever's it is."""

from __future__ import annotations

from typing import Any

from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.foreign.converting import values_to_compare


def asked_values(document: ConfigDocument) -> dict[str, Any]:
    """A config's values under our names, another tool's with that tool's defaults; PEFT's own as they stand, for ranks
    are read from them as PEFT reads them."""
    return dict(document.values) if "peft_type" in document.values else values_to_compare(document)
