"""What the check calls startable is trained: a few of the drawn configs, and presets on families that are unlike others.

All of them are drawn in `make soak`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_backend.config.presets import PRESETS
from tests.drawn.configs import NUMBER_DRAWN, ODD_KINDS, drawn
from tests.drawn.families import FAMILIES, STRICT
from tests.drawn.outcomes import outcome_of, tally
from tests.drawn.presets import preset_on
from tests.drawn.world import ODD_ROWS, World
from tests.pages.plan_page import profile_of
from tests.untraced import nothing_expected

STRIDE = 11
"""Coprime to the number of families, so that every few draws are of other ones."""
FEW = range(0, 10 * STRIDE, STRIDE)
UNLIKE = ("gpt2", "mpt", "deepseek_v2", "gpt_oss", "granitemoe", "qwen2_moe")
"""Layers of another kind, names of another kind, and mixtures of experts of each kind."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIGHTDECK_WORKSPACE", str(root / "ws"))
        patch.setenv("FLIGHTDECK_MODEL_ROOTS", str(root))
        patch.setenv("FLIGHTDECK_DATA_ROOTS", str(root))
        with nothing_expected():
            yield World(root)


@pytest.mark.parametrize("part", range(2))
def test_a_drawn_config_that_can_start_is_trained(part: int, world: World) -> None:
    found = tally(
        ((str(n), drawn(n, world.model, world.dataset, world.odd_dataset)) for n in FEW[part::2]), world.workspace
    )
    assert found.refused == []
    assert found.counts["trained"] >= 1, found.line()


@pytest.mark.parametrize(("family", "preset"), zip(UNLIKE, PRESETS, strict=True))
def test_a_preset_trains_or_says_before_what_to_change(family: str, preset: str, world: World) -> None:
    outcome = outcome_of(preset_on(PRESETS[preset], family, world), world.workspace)
    assert outcome.kind in ("trained", "blocked", "invalid"), outcome.said


@pytest.mark.parametrize("place", range(len(ODD_KINDS)), ids=ODD_KINDS)
def test_odd_rows_are_trained_on_or_stand_in_the_way_before(place: int, world: World) -> None:
    assert set(ODD_KINDS) == ODD_ROWS.keys()
    family = ("gpt2", STRICT[1])[place % 2]
    values = {"model_name": str(world.model(family)), "dataset": str(world.odd_dataset(ODD_KINDS[place])), "max_steps": 1, "batch_size": 2, "precision": "fp32"}  # fmt: skip
    for more in ({}, {"val_size": 0.5, "max_bad_rows": 9, "max_length": 32, "truncation": "drop"}):
        outcome = outcome_of(values | more, world.workspace)
        assert outcome.kind in ("trained", "blocked", "invalid"), outcome.said


def test_a_refusal_after_the_start_is_noticed(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "another's"))  # whose profile is kept there
    values = preset_on(PRESETS["four_bit_24gb"], "falcon", world)
    assert outcome_of(values, world.workspace, lambda _, config: profile_of(config)).kind == "refused"
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "its own"))
    assert outcome_of(values, world.workspace).kind == "blocked"


def test_every_number_draws_the_same_again_and_others_draw_others(world: World) -> None:
    first = [drawn(n, world.model, world.dataset, world.odd_dataset) for n in FEW]
    assert first == [drawn(n, world.model, world.dataset, world.odd_dataset) for n in FEW]
    assert len({str(values) for values in first}) == len(FEW)
    assert NUMBER_DRAWN >= 200
    assert NUMBER_DRAWN % len(FAMILIES) == 0
    assert {FAMILIES[n % len(FAMILIES)] for n in range(NUMBER_DRAWN)} == set(FAMILIES)
