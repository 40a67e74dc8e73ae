"""What all tests share: a tiny real model, a data set, and a workspace of the test's own. No torch until it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.tiny import chats, make_model, write_rows

# Read by torch when it is first imported, here and in children: workers that share the cores get one thread each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A busy machine is no failure; and the same code gets the same verdict, while `make soak` looks for new examples.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile("same")
# Sentences are compared in English, whoever runs the tests.
os.environ["LC_ALL"] = "C.UTF-8"

Make = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the session's own, shared by its workers: what is traced once is known to all."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIGHTDECK_HOME", str(shared / "cache"))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two blocks with tokenizer and chat template; tests read it and change nothing."""
    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace; models and data may come from anywhere below the test's own folder."""
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tmp_path))
    monkeypatch.setenv("FLIGHTDECK_DATA_ROOTS", str(tmp_path))
    return tmp_path / "ws"


@pytest.fixture
def config(tiny_model: Path, workspace: Path, tmp_path: Path) -> Make:
    """A good config for the tiny model: keywords change single keys, `...` takes one out."""
    data = write_rows(tmp_path / "chats.jsonl", chats())

    def make(**changes: Any) -> dict[str, Any]:
        values = {
            "model_name": str(tiny_model), "dataset": str(data), "r": 4, "alpha": 8, "num_epochs": 4, "learning_rate": 2e-2,
            "batch_size": 4, "precision": "fp32", "logging_steps": 1,
        }  # fmt: skip
        return {key: value for key, value in (values | changes).items() if value is not ...}

    return make
