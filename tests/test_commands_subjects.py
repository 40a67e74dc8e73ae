"""The adapter that a command's words name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lora_backend.commands.subjects import adapter_of, subject_of
from lora_backend.errors import FlightdeckError
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import make_run
from tests.tiny import make_published

CONFIG = {"model_name": "/models/base", "r": 4}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    path = tmp_path / "ws" / "runs" / "20260101-000000-abcd"
    run = make_run(path.parent, path=path, config=CONFIG, config_text="", argv=["x"], name="First")
    make_published(run.adapter)
    make_published(run.checkpoints / "checkpoint-5" / "adapter")
    return run


def test_a_run_is_named_by_id_or_folder(run: RunStore) -> None:
    for words in (run.id, str(run.path)):
        found = adapter_of(words)
        assert found.run is not None
        assert (found.adapter, found.run.id, found.config, found.base_model) == (run.adapter, run.id, CONFIG, "/models/base")  # fmt: skip
        assert (found.is_run, found.label) == (True, "First")


def test_an_adapter_inside_of_a_run_knows_its_run(run: RunStore) -> None:
    for words, label in (
        (run.adapter, "First"),
        (run.checkpoints / "checkpoint-5", "First checkpoint-5"),
        (run.checkpoints / "checkpoint-5" / "adapter", "First checkpoint-5"),
    ):
        found = adapter_of(str(words))
        assert found.run is not None
        assert (found.run.path, found.config, found.is_run, found.label) == (run.path, CONFIG, False, label)
        assert (found.adapter / "adapter_config.json").is_file()


def test_an_adapter_from_elsewhere_names_its_base_itself(run: RunStore, tmp_path: Path) -> None:
    folder = make_published(tmp_path / "handed on")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    found = adapter_of(str(folder))
    assert (found.run, found.config, found.base_model, found.label) == (None, None, "org/base", "handed on")


def test_what_is_no_adapter_is_refused_in_one_sentence(run: RunStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words, says in (
        (str(tmp_path / "gone"), "contains no adapter"),
        (str(tmp_path / "empty"), "contains no adapter"),
        ("20260101-000000-ffff", "Run 20260101-000000-ffff was not found"),
        ("org/never-downloaded", "Download it with"),
        ("a\0b", "There is no adapter folder"),
    ):
        with pytest.raises(FlightdeckError, match=says):
            adapter_of(words)
    assert subject_of(str(tmp_path / "empty")).base_model is None
    shutil.rmtree(run.adapter)
    with pytest.raises(FlightdeckError, match="has no adapter"):
        adapter_of(run.id)
    run.adapter.symlink_to(tmp_path / "empty")
    with pytest.raises(FlightdeckError, match="symbolic links"):
        adapter_of(run.id)
