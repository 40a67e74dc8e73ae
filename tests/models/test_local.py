"""The models that are on this machine: whole folders and the hub's cache, no links followed, nothing inside of a model."""

from __future__ import annotations

from pathlib import Path

from lora_backend.models.local import local_models
from tests.tiny import stub_model


def test_whole_models_are_found_by_folder_and_by_hub_id(tmp_path: Path) -> None:
    named = stub_model(tmp_path / "team/llama")
    stub_model(named / "inside")
    stub_model(tmp_path / "hub/models--org--name/snapshots/abc")
    bare = stub_model(tmp_path / "team/bare")
    (bare / "model.safetensors").unlink()
    stub_model(tmp_path / "ws/runs/one/model")
    stub_model(tmp_path / "elsewhere")
    (tmp_path / "team/link").symlink_to(tmp_path / "elsewhere")
    roots = (tmp_path / "team", tmp_path / "hub", tmp_path / "ws", tmp_path / "not there", tmp_path / "team")
    assert local_models(roots) == ["org/name", str(named)]
