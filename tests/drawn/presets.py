"""Every preset on every family of the catalogue, as short as it can be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lora_backend.config.presets import PRESETS, Preset
from tests.drawn.families import FAMILIES
from tests.drawn.world import World


def preset_on(preset: Preset, family: str, world: World) -> dict[str, Any]:
    """The preset's config for the family's tiny model: one step, and a place of its own to publish to."""
    values = preset.config(str(world.model(family)), str(world.dataset))
    values = {key: value for key, value in values.items() if key != "num_epochs"} | {"max_steps": 1}
    if "target_batch_size" in values:
        values["target_batch_size"] = values["batch_size"] * 2
    return values | ({"version": family} if "version" in values else {})


def all_presets(world: World) -> Iterator[tuple[str, dict[str, Any]]]:
    """Preset and family in words, and the config."""
    for family in FAMILIES:
        for preset in PRESETS.values():
            yield f"{preset.id} on {family}", preset_on(preset, family, world)
