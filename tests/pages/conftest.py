"""Places of a test's own for every page, and a small model that can be planned at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pages.plan_page import SMALL, answer


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tmp_path))
    monkeypatch.setenv("FLIGHTDECK_DATA_ROOTS", str(tmp_path))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: None) -> Path:
    """A config.json below a model root; the torch process is replaced at its edge."""
    monkeypatch.setattr("pages.parts.plan.work.trace", answer())
    (tmp_path / "small").mkdir()
    (tmp_path / "small/config.json").write_text(json.dumps(SMALL))
    return tmp_path / "small"
