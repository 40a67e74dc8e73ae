"""Well-known models to plan for with nothing downloaded: what their `config.json` says, and how many parameters they have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_DATA_FILE = Path(__file__).with_name("catalogue.json")


@dataclass(frozen=True)
class PublishedCount:
    """A number of parameters as its maker gives it, for checking the catalogue against."""

    count: int
    step: int
    """1 where the number is exact, else what it is rounded to, as 100,000,000 for “6.7B”."""
    where: str
    """`weights`: counted over the published weight files; `card`: written in the model's card."""
    not_parameters: int = 0
    """Numbers in the weight files that are none of the model's: buffers, or a tied head stored a second time."""
    why: str | None = None
    """What those numbers are."""


@dataclass(frozen=True)
class CatalogueModel:
    """One causal language model as it is published."""

    name: str
    """Its id on the hub, `organisation/model`."""
    parameters: int
    """All parameters of the model that the config builds, tied ones counted once."""
    published: PublishedCount
    source: str
    """Address of the `config.json`."""
    config_json: str

    @property
    def config(self) -> dict[str, Any]:
        """The keys of `config.json` that shape the model or its training, under their published names; a new dict each time.

        Left out: how quantized weights are packed (by which method is there), the code that a repository brings along, and what concerns generation alone.
        """
        config: dict[str, Any] = json.loads(self.config_json)
        return config

    @property
    def model_type(self) -> str:
        return str(self.config["model_type"])


@lru_cache
def catalogue() -> tuple[CatalogueModel, ...]:
    """All models, families together."""
    return tuple(
        CatalogueModel(
            name=row["name"],
            parameters=row["parameters"],
            published=PublishedCount(**row["published"]),
            source=row["source"],
            config_json=json.dumps(row["config"]),
        )
        for row in json.loads(_DATA_FILE.read_text("utf-8"))
    )


def find_in_catalogue(name: str) -> CatalogueModel | None:
    """The model with this id, in any case, with its organisation or without."""
    wanted = name.strip().lower()
    return next((model for model in catalogue() if wanted in _names(model)), None)


def _names(model: CatalogueModel) -> tuple[str, str]:
    full = model.name.lower()
    return full, full.rpartition("/")[2]
