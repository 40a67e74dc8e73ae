"""`verify` beside a base model: what it was held against, what differs, and the torch process where headers do not decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.modeling.saved import saved_adapter, saved_base
from tests.python import call


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))


def verified(folder: Path) -> tuple[int, dict[str, Any], str]:
    done = call("-m", "lora_backend", "verify", str(folder), "--json")
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_tensor_of_another_width_ends_with_1_and_both_shapes(tmp_path: Path) -> None:
    folder = saved_adapter(tmp_path / "a", saved_base(tmp_path / "base", "llama"), target_modules=["q_proj"])
    code, document, stderr = verified(folder)
    assert (code, document["compared"], document["differences"], stderr) == (0, "headers", [], "")
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    save_file(tensors | {name: tensors[name][:, :5].contiguous()}, file)
    code, document, _ = verified(folder)
    assert (code, document["status"]) == (1, "mismatch")
    (item,) = document["differences"]
    assert (item["code"], item["file_shape"], item["model_shape"]) == ("other_shape", [4, 5], [4, 16])
    text = call("-m", "lora_backend", "verify", str(folder), "--lang", "en").stdout
    assert f"Compared with the safetensors headers of {tmp_path / 'base'}." in text
    assert "layers.1.self_attn.q_proj.lora_A.weight: other shape (file 4 × 5, model 4 × 16)" in text


def test_where_headers_do_not_decide_the_torch_process_is_asked_once(tmp_path: Path) -> None:
    folder = saved_adapter(
        tmp_path / "a", saved_base(tmp_path / "base", "mixtral"), target_modules=["q_proj", "w1", "w2", "w3"]
    )
    code, document, stderr = verified(folder)
    assert (code, document["status"], document["compared"]) == (0, "ok", "module_tree")
    assert "Starting torch and PEFT" in stderr
    assert verified(folder) == (0, document, "")


def test_without_a_base_the_exit_code_is_that_of_the_ranks(tmp_path: Path) -> None:
    folder = saved_adapter(tmp_path / "a", saved_base(tmp_path / "base", "llama"), target_modules=["q_proj"])
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/gone"}))
    code, document, _ = verified(folder)
    assert (code, document["compared"], document["warnings"]) == (0, None, ["base_not_compared"])
    text = call("-m", "lora_backend", "verify", str(folder), "--lang", "en").stdout
    assert "Ranks OK, not compared with a base model." in text
    assert "Not compared with /gone: There is no model folder /gone" in text
