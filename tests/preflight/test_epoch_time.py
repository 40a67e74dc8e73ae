"""How long an epoch over counted rows takes, by a profile that was traced before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lora_backend.data.data_report import TokenCounts
from lora_backend.installation import this_installation
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.planner import NotTracedError
from lora_backend.planning.profile_store import ProfileStore
from lora_backend.preflight.epoch_time import epoch_seconds, lengths_of
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.plan_question import config_to_plan
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from tests.pages.plan_page import SMALL
from tests.planning.formula_profiles import formula_profile


def counts(**more: object) -> TokenCounts:
    known = {
        "rows": 10, "is_estimate": False, "tokens": 1000, "trained_tokens": 400, "longest": 300, "cut": 0,
        "without_end": 0, "behind_cut": 0, "max_length": 512, "truncation": "cut_answer", "lengths": [6, 3, 1],
        "edges": [64, 128, 300], "padded_share": 0.1,
    }  # fmt: skip
    return TokenCounts.model_validate(known | more)


@pytest.fixture
def resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResolvedConfig:
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "cache"))
    (tmp_path / "small").mkdir()
    (tmp_path / "small/config.json").write_text(json.dumps(SMALL))
    values = {
        "model_name": str(tmp_path / "small"),
        "max_length": 512,
        "num_epochs": 3,
        "max_steps": 7,
        "precision": "fp32",
    }
    return resolve(values, this_installation(), AnyPath(tmp_path))


def test_lengths_are_those_of_the_histogram_and_of_many_rows_a_share() -> None:
    assert list(lengths_of(counts())) == [32] * 6 + [96] * 3 + [214]
    many = list(lengths_of(counts(lengths=[600_000, 300_000, 100_000])))
    assert [many.count(length) for length in (32, 96, 214)] == [600, 300, 100]


def test_an_epoch_is_one_whatever_the_config_trains_and_longer_rows_take_longer(resolved: ResolvedConfig) -> None:
    with pytest.raises(NotTracedError):
        epoch_seconds(resolved, counts(), 10)
    config = config_to_plan({key: value for key, value in resolved.values.items() if key != "max_steps"})
    store = ProfileStore(resolved.installation.cache / "profiles")
    made = formula_profile(SMALL, config, TraceSettings.of(config, config.precision))
    store.save(resolved.config_json, replace(made, method="traced", expected_error=0.01))
    short, long = epoch_seconds(resolved, counts(), 1000), epoch_seconds(resolved, counts(lengths=[0, 0, 10]), 1000)
    twice = epoch_seconds(resolved, counts(), 2000)
    assert short
    assert long
    assert twice
    assert 0 < short[0] <= short[1] < long[1]
    assert twice[1] == pytest.approx(2 * short[1])
