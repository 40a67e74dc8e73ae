"""Whether an adapter was made on another base model than the one that it is held against, of equal shapes or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_backend.errors import FlightdeckError
from lora_backend.installation import path_of
from lora_backend.models.find import HUB_ID
from lora_backend.models.identity import base_identity
from lora_backend.verification.passport import base_in_passport

FindBase = Callable[[str], Path]
"""Finds a model by its name; from the browser only within the roots. Raises `ModelError`."""
FOLDERS = frozenset({"model", "models", "base", "checkpoint", "checkpoints", "output", "outputs", "workspace", "data"})
"""First parts of names that look like ids of the hub and are paths of another machine."""
_QUANTIZED = re.compile(r"(-unsloth)?-(bnb-\d+bit|awq|gptq(-int\d)?|fp8)$")
"""What the hub's ids of one model in other bytes end in."""


def other_base(folder: Path, base: Path, name: str, own: Any, find_base: FindBase) -> str | None:
    """The name of the base model that the adapter was made on, where passport or adapter say that it is another.

    `base` and `name`: the one that it is held against. `own`: the adapter's `base_model_name_or_path`. None where they
    are the same, or where nobody can tell: a path of another machine says nothing.
    """
    recorded = base_in_passport(folder)
    told = _is_same(recorded, base, ("weights_sha256", "config_sha256")) if recorded else None
    if told is not None:
        return None if told else str(recorded.get("name") or own or "–")
    if not own or str(own) == name:
        return None
    try:
        made_on = find_base(str(own))
    except FlightdeckError:
        return other_hub_name(name, own)
    if made_on.resolve() == base.resolve():
        return None
    # Of two files a word more in one config.json says nothing of the weights that are not here.
    return str(own) if _is_same(base_identity(made_on), base, ("weights_sha256",)) is False else None


def other_hub_name(name: str, own: Any) -> str | None:
    """`own` where both are ids of the hub and of different models, whoever published them."""
    ids = (name, str(own or ""))
    if not all(HUB_ID.fullmatch(item) and item.partition("/")[0] not in FOLDERS for item in ids):
        return None
    paths = [path_of(item) for item in ids]
    if any(path is not None and path.exists() for path in paths):
        return None
    models = {_QUANTIZED.sub("", item.rpartition("/")[2].lower()) for item in ids}
    return str(own) if len(models) == 2 else None


def _is_same(recorded: Mapping[str, Any], base: Path, keys: Sequence[str]) -> bool | None:
    """By the first of `keys` that is known of both; None where none is."""
    found = base_identity(base)
    for key in keys:
        then, now = recorded.get(key), found.get(key)
        if then and now:
            return bool(then == now)
    return None
