"""Profiles kept on disk, by the content of what they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from lora_backend.atomic import write_json
from lora_backend.bounded import read_json
from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.cost.profile import VERSION, Profile
from lora_backend.planning.cost.trace_settings import Batch, TraceSettings

MADE_WITH = ("torch", "transformers", "peft", "accelerate")
"""Packages whose code a trace runs: another version of one may cost something else."""
NO_FACTS = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache")
"""Keys of a config.json that say nothing of the model's size."""


class ProfileStore:
    """Profiles below one folder: `<model>/<settings>.json`, and beside them what the settings of a model depend on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, Profile] = {}
        """What was read before: remedies and limits ask for the same few profiles dozens of times."""

    def find(self, facts: Mapping[str, Any], config: TrainingConfig, batch: Batch | None = None) -> Profile | None:
        """The profile of a model for what `config` asks (its `precision` resolved), if it was made before.

        `batch`: a real one, in place of the largest.
        """
        model = self.folder / model_key(facts)
        card = _read(model / "model.json")
        if card is None:
            return None
        settings = TraceSettings.of(config, config.precision, tuple(card["windows"]), card["tile_tokens"], batch)
        either = settings, replace(settings, uneven=not settings.uneven)
        kept = (self._kept(model / f"{_key(one.to_json())}.json") for one in either)
        return next((profile for profile in kept if profile is not None and profile.serves(settings)), None)

    def _kept(self, path: Path) -> Profile | None:
        if path not in self._read:
            data = _read(path)
            if data is None or data.get("version") != VERSION:
                return None
            self._read[path] = Profile.from_json(data)
        return self._read[path]

    def save(self, facts: Mapping[str, Any], profile: Profile) -> None:
        """Keep a profile; the folder is made if it is not there."""
        model = self.folder / model_key(facts)
        model.mkdir(parents=True, exist_ok=True)
        path = model / f"{_key(profile.settings.to_json())}.json"
        self._read.pop(path, None)
        write_json(path, profile.to_json())
        write_json(model / "model.json", {"windows": list(profile.windows), "tile_tokens": profile.tile_tokens})


def model_key(facts: Mapping[str, Any]) -> str:
    """The same for configs that say the same of a model, under the same versions of what traces it."""
    said = {key: value for key, value in facts.items() if key not in NO_FACTS}
    return _key({"facts": said, "versions": _versions(), "profile": VERSION})


@lru_cache
def _versions() -> tuple[str, ...]:
    return tuple(metadata.version(name) for name in MADE_WITH)


def _key(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        loaded = read_json(path)
    except (OSError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None
