"""A tiny real model and data set, and a workspace of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import chats, make_model, write_rows


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    return tmp_path / "ws"


@pytest.fixture
def config(tiny_model: Path, workspace: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A good config for the tiny model; keywords change single keys."""
    data = write_rows(tmp_path / "chats.jsonl", chats())

    def make(**changes: Any) -> dict[str, Any]:
        values = {
            "model_name": str(tiny_model), "dataset": str(data), "r": 4, "alpha": 8, "num_epochs": 4, "learning_rate": 2e-2,
            "batch_size": 4, "precision": "fp32", "logging_steps": 1,
        }  # fmt: skip
        return {key: value for key, value in (values | changes).items() if value is not ...}

    return make
