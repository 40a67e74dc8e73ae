"""A Llama of any size with made-up weights in shards, and an adapter on all its linear layers; written without a model in memory."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

HIDDEN, INNER, WORDS = 1024, 4096, 1000
BLOCK_BYTES = 2 * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * INNER + 2 * HIDDEN)
"""Of a block in bf16."""
LINEAR = {
    **{f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"},
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}


def make_sharded(folder: Path, shard_bytes: int, num_shards: int, rank: int = 8) -> None:
    """`base/` with so many shards of about that size, and `adapter/`."""
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir(parents=True)
    adapter.mkdir()
    blocks_each = max(shard_bytes // BLOCK_BYTES, 1)
    num_blocks, total = blocks_each * num_shards, 0
    places: dict[str, str] = {}
    generator = torch.Generator().manual_seed(0)

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.bfloat16) * 0.02

    for shard in range(num_shards):
        tensors: dict[str, torch.Tensor] = {}
        for block in range(shard * blocks_each, (shard + 1) * blocks_each):
            name = f"model.layers.{block}"
            tensors |= {f"{name}.{part}.weight": made(*shape) for part, shape in LINEAR.items()}
            tensors |= {
                f"{name}.{part}.weight": made(HIDDEN) for part in ("input_layernorm", "post_attention_layernorm")
            }
        if shard == 0:
            tensors |= {"model.embed_tokens.weight": made(WORDS, HIDDEN), "model.norm.weight": made(HIDDEN)}
            tensors["lm_head.weight"] = made(WORDS, HIDDEN)
        file = f"model-{shard + 1:05}-of-{num_shards:05}.safetensors"
        save_file(tensors, base / file, {"format": "pt"})
        places |= dict.fromkeys(tensors, file)
        total += sum(tensor.numel() * 2 for tensor in tensors.values())
    (base / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": places})
    )
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": WORDS, "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": num_blocks, "num_attention_heads": 16, "num_key_value_heads": 16,
        "dtype": "bfloat16",
    }  # fmt: skip
    (base / "config.json").write_text(json.dumps(config))
    halves = {}
    for block in range(num_blocks):
        for part, (outputs, inputs) in LINEAR.items():
            name = f"base_model.model.model.layers.{block}.{part}"
            halves[f"{name}.lora_A.weight"] = made(rank, inputs).float()
            halves[f"{name}.lora_B.weight"] = made(outputs, rank).float()
    save_file(halves, adapter / "adapter_model.safetensors", {"format": "pt"})
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank,
        "target_modules": [part.rpartition(".")[2] for part in LINEAR], "base_model_name_or_path": str(base),
    }  # fmt: skip
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
