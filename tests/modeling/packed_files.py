"""Checkpoints as quantization tools write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM

from tests.tiny import make_model

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
        GptOssConfig(
            vocab_size=vocabulary, num_hidden_layers=2, num_local_experts=2, num_experts_per_tok=1, **sizes, **SPECIAL
        )
    )
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
