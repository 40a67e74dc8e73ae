"""Checkpoints that come in few bits, for real: unpacked or packed as their method asks, and trained to the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.modeling.load import load_model
from lora_backend.modeling.quantization import quantized_layers
from lora_backend.preflight.facts import check_config_consistency
from tests.tiny import make_model
from tests.training.helpers import run

Make = Callable[..., dict[str, Any]]
SIDE = 128
"""Of a block of fp8 weights that share one scale."""
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, "max_position_embeddings": 128}


def make_wide(folder: Path) -> Path:
    """The tiny model, wide enough for blocks of 128 weights."""
    make_model(folder)
    torch.manual_seed(0)
    vocabulary = LlamaConfig.from_pretrained(folder).vocab_size
    LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, num_hidden_layers=2, **WIDE, **SPECIAL)).save_pretrained(folder)
    return folder


def store_as(folder: Path, tensors: dict[str, torch.Tensor], how: dict[str, Any]) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": how}))


def make_fp8(folder: Path) -> dict[str, torch.Tensor]:
    """Store the linear layers of the blocks in fp8, with a scale for each 128 × 128; returns what they were."""
    whole: dict[str, torch.Tensor] = load_file(make_wide(folder) / "model.safetensors")
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in whole.items():
        if not name.endswith("_proj.weight"):
            stored[name] = tensor.bfloat16()
            continue
        rows, columns = tensor.shape
        blocks = tensor.float().reshape(rows // SIDE, SIDE, columns // SIDE, SIDE)
        scale = blocks.abs().amax(dim=(1, 3), keepdim=True) / torch.finfo(torch.float8_e4m3fn).max
        stored[name] = (blocks / scale).reshape(rows, columns).to(torch.float8_e4m3fn)
        stored[name.replace(".weight", ".weight_scale_inv")] = scale.reshape(rows // SIDE, columns // SIDE)
    how = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [SIDE, SIDE]}
    store_as(folder, stored, how)
    return whole


def make_mxfp4(folder: Path) -> None:
    """A small mixture whose experts are packed as gpt-oss ships them: two weights a byte, a scale for each 32."""
    make_model(folder)
    vocabulary = LlamaConfig.from_pretrained(folder).vocab_size
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    model = GptOssForCausalLM(
        GptOssConfig(vocab_size=vocabulary, num_hidden_layers=2, num_local_experts=2, num_experts_per_tok=1, **sizes, **SPECIAL)
    )  # fmt: skip
    model.save_pretrained(folder)
    stored = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if not name.endswith(("gate_up_proj", "down_proj")):
            stored[name] = tensor.bfloat16()
            continue
        experts, inputs, outputs = tensor.shape
        groups = (experts, outputs, inputs // 32)
        stored[f"{name}_blocks"] = torch.randint(0, 256, (*groups, 16), dtype=torch.uint8)
        stored[f"{name}_scales"] = torch.full(groups, 122, dtype=torch.uint8)  # 2 ** (122 - 127)
    store_as(folder, stored, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})


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
