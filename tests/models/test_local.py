"""The models that are on this machine: whole folders and the hub's cache, no links followed, nothing inside of a model."""

from __future__ import annotations

from pathlib import Path

from lora_backend.models.local import local_models
from tests.tiny import stub_model


def test_whole_models_are_found_by_folder_and_by_hub_id(tmp_path: Path) -> None:
    named = stub_model(tmp_path / "team/llama")
    stub_model(named / "inside")
    stub_model(tmp_path / "hub/models--org--name/snapshots/abc")
    older = stub_model(tmp_path / "hub/models--org--name/snapshots/123")
    (tmp_path / "hub/models--org--name/refs").mkdir()
    (tmp_path / "hub/models--org--name/refs/main").write_text("abc\n")
    bare = stub_model(tmp_path / "team/bare")
    (bare / "model.safetensors").unlink()
    stub_model(tmp_path / "ws/runs/one/model")
    stub_model(tmp_path / "elsewhere")
    (tmp_path / "team/link").symlink_to(tmp_path / "elsewhere")
    roots = (tmp_path / "team", tmp_path / "hub", tmp_path / "ws", tmp_path / "not there", tmp_path / "team")
    found = local_models(roots)
    assert [(model.name, model.is_cached) for model in found] == [
        (str(older), True), ("org/name", True), (str(named), False)
    ]  # fmt: skip
    assert [model.folder for model in found] == [older, older.with_name("abc"), named]
    assert {model.size_bytes for model in found} == {(named / "model.safetensors").stat().st_size}


def test_a_model_of_which_shards_are_not_there_yet_is_not_listed(tmp_path: Path) -> None:
    model = stub_model(tmp_path / "m")
    whole = (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    assert local_models([tmp_path]) == []
    (model / "model-00002-of-00002.safetensors").write_bytes(whole.read_bytes() * 3)
    (found,) = local_models([tmp_path])
    assert found.size_bytes == 4 * whole.stat().st_size
