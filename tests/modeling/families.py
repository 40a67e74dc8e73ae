"""Tiny configs of model families that name their parts differently."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CLIPVisionConfig,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MixtralConfig,
    OPTConfig,
    Qwen2MoeConfig,
)

SMALL = {"vocab_size": 32, "hidden_size": 16}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
LLAMA = LlamaConfig(**SMALL, intermediate_size=24, num_hidden_layers=3, **HEADS)
CONFIGS: dict[str, Any] = {
    "llama": LLAMA,
    "gpt2": GPT2Config(vocab_size=32, n_embd=16, n_layer=3, n_head=2, n_positions=16),
    # A width of its own for the embedding puts two linear layers outside of the blocks.
    "opt": OPTConfig(**SMALL, ffn_dim=24, num_hidden_layers=3, num_attention_heads=2, word_embed_proj_dim=8),
    "bloom": BloomConfig(**SMALL, n_layer=3, n_head=2),
    "falcon": FalconConfig(**SMALL, num_hidden_layers=3, num_attention_heads=2),
    "gpt_neox": GPTNeoXConfig(**SMALL, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2),
    "gemma2": Gemma2Config(**SMALL, intermediate_size=24, num_hidden_layers=3, head_dim=8, **HEADS),
    "mixtral": MixtralConfig(**SMALL, intermediate_size=24, num_hidden_layers=3, num_local_experts=2, **HEADS),
    "qwen2_moe": Qwen2MoeConfig(
        **SMALL, intermediate_size=24, moe_intermediate_size=8, shared_expert_intermediate_size=8, num_experts=2,
        num_experts_per_tok=1, num_hidden_layers=3, **HEADS,
    ),
}  # fmt: skip


def on_meta(family: str) -> Any:
    """The model with names and shapes, and without memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(CONFIGS[family])


def vision_language() -> Any:
    """Llava, its vision tower as deep as its language model."""
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=8, patch_size=4
    )
    with torch.device("meta"):
        return LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=LLAMA))
