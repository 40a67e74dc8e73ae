"""Over all drawn configs, and all presets on all families: none is called startable and refused by the trainer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.drawn.configs import NUMBER_DRAWN, drawn
from tests.drawn.outcomes import tally
from tests.drawn.presets import all_presets
from tests.drawn.world import World
from tests.soak.conftest import Figures

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


def held(title: str, configs: Iterable[tuple[str, dict[str, Any]]], world: World, figures: Figures) -> None:
    found = tally(configs, world.workspace)
    figures(f"{title}: {found.line()}")
    assert found.refused == []
    assert found.counts["trained"] > found.counts.total() / 3, "too few to prove anything"


def test_what_is_drawn_and_startable_trains(workspace: Path, tmp_path: Path, figures: Figures) -> None:
    world = World(tmp_path)
    configs = ((str(n), drawn(n, world.model, world.dataset, world.odd_dataset)) for n in range(NUMBER_DRAWN))
    held(f"{NUMBER_DRAWN} drawn configs", configs, world, figures)


def test_every_preset_trains_on_every_family_or_says_what_to_change(
    workspace: Path, tmp_path: Path, figures: Figures
) -> None:
    world = World(tmp_path)
    held("presets on families", all_presets(world), world, figures)
