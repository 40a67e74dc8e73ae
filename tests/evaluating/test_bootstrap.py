"""Intervals of resampled rows: seeded, paired, and as wide as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from lora_backend.evaluating import bootstrap
from lora_backend.evaluating.bootstrap import Ratios
from lora_backend.runs.record.evaluation_documents import Estimate


def width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    (found,), _ = Ratios(values[None], np.ones(400)).estimates()
    error = values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.05 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.05 * error)


def test_the_interval_holds_the_true_loss_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 400)
    generator, held = np.random.default_rng(2), 0
    for _ in range(300):
        tokens = generator.integers(5, 50, 80).astype(float)
        nats = tokens * generator.gamma(4, 0.25, 80)  # a mean of 1 nat a token
        (found,), _ = Ratios(nats[None], tokens).estimates()
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1 <= found.high
    assert 0.88 <= held / 300 <= 0.98


def test_a_difference_is_paired() -> None:
    """Rows differ much and both columns alike: the loss is unsure, the difference is not."""
    base = np.random.default_rng(3).gamma(1, 3, 200)
    (loss, after), (none, change) = Ratios(np.stack([base, base - 0.1]), np.ones(200)).estimates()
    assert (none.value, none.low, none.high) == (0, 0, 0)
    assert change.value == pytest.approx(-0.1)
    assert width(change) < 1e-9 < 0.5 < width(loss)
    assert width(after) == pytest.approx(width(loss))


def test_the_same_rows_give_the_same_interval_however_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = Ratios(np.random.default_rng(4).random((2, 50)), np.ones(50))
    first = ratios.estimates()
    assert ratios.estimates() == first
    told: list[float] = []
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", 50 * 3000)
    for found, wanted in zip(ratios.estimates(told.append)[0], first[0], strict=True):
        assert found.low == pytest.approx(wanted.low)
        assert found.high == pytest.approx(wanted.high)
    assert told == [0.3, 0.6, 0.9, 1.0]


def test_a_single_row_has_no_interval() -> None:
    (loss,), (change,) = Ratios(np.array([[2.0]]), np.array([4.0])).estimates()
    assert (loss.value, loss.low, loss.high) == (0.5, None, None)
    assert (change.value, change.low) == (0, None)
