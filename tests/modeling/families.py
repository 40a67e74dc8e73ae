"""Tiny configs of model families that name their parts differently."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CLIPVisionConfig,
    DeepseekV2Config,
    DeepseekV3Config,
    Ernie4_5_MoeConfig,
    FalconConfig,
    FalconH1Config,
    Gemma2Config,
    Gemma3Config,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteMoeConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MambaConfig,
    MixtralConfig,
    OlmoeConfig,
    OPTConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
    Qwen3NextConfig,
)

from lora_backend.modeling.live_tree import tree_of_model

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

MOE = {"intermediate_size": 24, "moe_intermediate_size": 8, "num_hidden_layers": 3, "num_experts_per_tok": 1}
DEEPSEEK = {
    **SMALL, **MOE, "num_attention_heads": 2, "num_key_value_heads": 2, "n_routed_experts": 2, "n_shared_experts": 1,
    "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "n_group": 1, "topk_group": 1,
}  # fmt: skip
MIXTURES: dict[str, Any] = {
    "mixtral": CONFIGS["mixtral"],
    "qwen2_moe": CONFIGS["qwen2_moe"],
    "qwen3_moe": Qwen3MoeConfig(**SMALL, **MOE, **HEADS, num_experts=2, head_dim=8),
    "olmoe": OlmoeConfig(**SMALL, intermediate_size=8, num_hidden_layers=3, num_experts=2, num_experts_per_tok=1, **HEADS),
    "deepseek_v2": DeepseekV2Config(**DEEPSEEK),
    "deepseek_v3": DeepseekV3Config(**DEEPSEEK),
    "ernie4_5_moe": Ernie4_5_MoeConfig(
        **SMALL, intermediate_size=24, moe_intermediate_size=8, num_hidden_layers=3, moe_num_experts=2, moe_k=1,
        moe_layer_start_index=1, moe_num_shared_experts=1, **HEADS,
    ),
    "qwen3_next": Qwen3NextConfig(
        **SMALL, **MOE, **HEADS, head_dim=8, shared_expert_intermediate_size=8, num_experts=2, linear_num_key_heads=2,
        linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8, mlp_only_layers=[0],
        layer_types=["linear_attention", "full_attention", "linear_attention"],
    ),
    "gpt_oss": GptOssConfig(
        **SMALL, intermediate_size=8, num_hidden_layers=3, num_local_experts=2, num_experts_per_tok=1, head_dim=8, **HEADS
    ),
    "granitemoe": GraniteMoeConfig(
        **SMALL, intermediate_size=8, num_hidden_layers=3, num_local_experts=2, num_experts_per_tok=1, **HEADS
    ),
}  # fmt: skip
HYBRIDS: dict[str, Any] = {
    "mamba": MambaConfig(**SMALL, num_hidden_layers=3, state_size=4),
    "falcon_h1": FalconH1Config(
        **SMALL,
        intermediate_size=24,
        num_hidden_layers=3,
        mamba_d_ssm=16,
        mamba_n_heads=2,
        mamba_d_head=8,
        mamba_d_state=4,
        mamba_n_groups=1,
        mamba_chunk_size=4,
        **HEADS,
    ),
}


def on_meta(family: str) -> Any:
    """The model with names and shapes, and without memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config((CONFIGS | MIXTURES | HYBRIDS)[family])


def gemma3() -> Any:
    """Gemma 3 with its vision tower, which transformers builds for a causal model as well."""
    text = {**SMALL, "intermediate_size": 24, "num_hidden_layers": 3, "head_dim": 8, **HEADS}
    vision = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 8,
        "patch_size": 4,
    }  # fmt: skip
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
        )


def vision_language() -> Any:
    """Llava, its vision tower as deep as its language model."""
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=8, patch_size=4
    )
    with torch.device("meta"):
        return LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=LLAMA))


def linear_endings(model: Any) -> list[str]:
    """Endings of the names of all linear layers but the output head."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in tree_of_model(model).linear))
