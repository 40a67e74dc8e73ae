"""Places of a test's own for every page, and a small model that can be planned at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from streamlit.components.v2 import manifest_scanner

from tests.pages.plan_page import SMALL, answer


@pytest.fixture(scope="session", autouse=True)
def _scanned_once() -> Iterator[None]:
    """Each run of an AppTest looks through all installed packages for components of Streamlit's: three quarters of its time,
    for what stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield


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
