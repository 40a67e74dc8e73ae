"""Checkpoints that come in few bits, for real: unpacked or packed as their method asks, and trained to the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lora_backend.config.schema import TrainingConfig
from lora_backend.config_checker import check_config_consistency
from lora_backend.errors import ModelError
from lora_backend.modeling.load import load_model
from lora_backend.modeling.quantization import quantized_layers
from tests.modeling.packed_files import make_fp8, make_mxfp4, make_wide, store_as
from tests.tiny import make_model
from tests.training.helpers import run

Make = Callable[..., dict[str, Any]]


def checked(values: dict[str, Any], code: str) -> dict[str, Any]:
    """The one finding with that code."""
    found = [item for item in check_config_consistency(values)["findings"] if item["code"] == code]
    assert len(found) == 1
    return dict(found[0])


def test_fp8_is_unpacked_and_trains(config: Make, tmp_path: Path, workspace: Path) -> None:
    whole = make_fp8(tmp_path / "fp8")
    values = config(model_name=str(tmp_path / "fp8"), precision="fp32", max_steps=2)
    model = load_model(TrainingConfig(**values))
    weight = model.model.layers[0].self_attn.q_proj.weight
    assert weight.dtype == torch.float32
    was = whole["model.layers.0.self_attn.q_proj.weight"].float()
    assert torch.allclose(weight, was, atol=float(was.abs().max()) / 16)
    assert checked(values, "quantized_expanded")["severity"] == "hint"
    assert run(workspace, values | {"strict_r_check": True}).state().state == "finished"


def test_mxfp4_is_unpacked_and_trains(config: Make, tmp_path: Path, workspace: Path) -> None:
    make_mxfp4(tmp_path / "mxfp4")
    values = config(model_name=str(tmp_path / "mxfp4"), target_modules=["q_proj", "v_proj"], max_steps=2)
    model = load_model(TrainingConfig(**values))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.model.layers[0].mlp.experts.gate_up_proj.abs().max() == 6 / 32  # the largest of its kind, scaled
    assert run(workspace, values | {"strict_r_check": True}).state().state == "finished"


def test_bitsandbytes_is_trained_as_it_is(config: Make, tmp_path: Path, workspace: Path) -> None:
    make_wide(tmp_path / "whole")
    whole = load_model(TrainingConfig(**config(model_name=str(tmp_path / "whole"), quantization="nf4")))
    make_wide(tmp_path / "packed")
    (tmp_path / "packed" / "model.safetensors").unlink()
    whole.save_pretrained(tmp_path / "packed")
    values = config(model_name=str(tmp_path / "packed"), max_steps=2)
    assert len(quantized_layers(load_model(TrainingConfig(**values)))) == 14
    assert run(workspace, values | {"strict_r_check": True}).state().state == "finished"
    assert checked(values | {"quantization": "nf4"}, "quantized_already")["severity"] == "error"
    with pytest.raises(ModelError, match=r"quantized already \(bitsandbytes\)"):
        load_model(TrainingConfig(**values | {"quantization": "nf4"}))
    saved = checked(values | {"modules_to_save": ["down_proj"]}, "quantized_whole")
    assert saved["message"].startswith("`modules_to_save` names `down_proj`, whose weights are quantized")


def test_packed_layers_are_known_by_name(config: Make, tmp_path: Path) -> None:
    """GPTQ's and AWQ's weights are called otherwise; beside layers left whole a target is no misspelling for that."""
    folder = make_wide(tmp_path / "gptq")
    packed = {
        name.replace("q_proj.weight", "q_proj.qweight"): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    store_as(folder, packed, {"quant_method": "gptq", "bits": 4})
    findings = check_config_consistency(config(model_name=str(folder), target_modules=["q_proj"]))["findings"]
    assert "unmatched_target" not in {item["code"] for item in findings}
    assert "model_library_missing" in {item["code"] for item in findings}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"modules_to_save": ["lm_head"]}, "`lm_head`"),
        ({"modules_to_save": ["lm_head", "embed_tokens"]}, "`lm_head`, `embed_tokens`"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "`embed_tokens`"),
    ],
)
def test_tied_weights_that_would_part_are_told(
    changes: dict[str, Any], names: str, config: Make, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "tied")
    values = config(model_name=str(folder), **changes)
    assert "trains_tied_weights" not in {item["code"] for item in check_config_consistency(values)["findings"]}
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"tie_word_embeddings": True}))
    found = checked(values, "trains_tied_weights")
    assert found["severity"] == "warning"
    assert f"trains {names}, but head and embedding share their weights" in found["message"]
