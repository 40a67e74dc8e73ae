"""A model is known again by its files; another in its place is told from it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lora_backend.models.identity import SAMPLE_BYTES, base_identity


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def differing(model: Path, before: dict[str, str | None]) -> set[str]:
    return {key for key, value in base_identity(model).items() if value != before[key]}


def test_a_copy_is_the_same_and_each_change_is_told_apart(model: Path, tmp_path: Path) -> None:
    before = base_identity(model)
    assert before["revision"] is None
    shutil.copytree(model, tmp_path / "copy")
    assert differing(tmp_path / "copy", before) == set()
    (model / "README.md").write_text("not of the model")
    assert differing(model, before) == set()
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert differing(model, before) == {"tokenizer_sha256"}
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"rope_theta": 1.0}))
    assert differing(model, before) == {"tokenizer_sha256", "config_sha256"}


def test_other_weights_of_the_same_shapes_are_another_model_and_a_large_file_is_sampled(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(b"small")
    large = bytearray(64 * SAMPLE_BYTES)
    (tmp_path / "model-2.safetensors").write_bytes(large)
    before = base_identity(tmp_path)["weights_sha256"]
    assert before
    for place in (0, 63 * SAMPLE_BYTES + 5):
        large[place] = 1
        (tmp_path / "model-2.safetensors").write_bytes(large)
        after = base_identity(tmp_path)["weights_sha256"]
        assert after != before
        before = after


def test_the_hubs_cache_says_its_revision(model: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    model.rename(tmp_path / "snapshots/abc123")
    assert base_identity(tmp_path / "snapshots/abc123")["revision"] == "abc123"


def test_what_is_not_there_or_no_file_is_not_told(tmp_path: Path) -> None:
    assert set(base_identity(tmp_path / "none").values()) == {None}
    (tmp_path / "config.json").write_text("{}")
    assert base_identity(tmp_path / "config.json")["config_sha256"]
    os.mkfifo(tmp_path / "tokenizer.json")
    os.mkfifo(tmp_path / "model.safetensors")
    found = base_identity(tmp_path)
    assert (found["weights_sha256"], found["tokenizer_sha256"]) == (None, None)
