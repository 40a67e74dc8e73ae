"""Tiny base models of many families, each saved in a folder of its own: what adapters are made on and held against."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    SiglipVisionConfig,
)

from tests.modeling.families import CONFIGS, HEADS, SMALL

SIZES = {**SMALL, "intermediate_size": 24, "num_hidden_layers": 2, **HEADS}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
TEXT = {**SIZES, "head_dim": 8}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def llama(**changes: Any) -> LlamaConfig:
    return LlamaConfig(**SIZES | changes)


def vision_language(**changes: Any) -> Gemma3Config:
    vision = SiglipVisionConfig(**VISION | changes, image_size=8, patch_size=4)
    return Gemma3Config(text_config=Gemma3TextConfig(**TEXT), vision_config=vision, mm_tokens_per_image=4)


BASES: dict[str, Any] = {
    **{name: CONFIGS[name] for name in ("gpt2", "opt", "bloom", "falcon", "gpt_neox", "gemma2", "mixtral", "qwen2_moe")},
    "llama": llama(),
    "llama_bias": llama(attention_bias=True, mlp_bias=True),
    "llama_tied": llama(tie_word_embeddings=True),
    "llama_wide": llama(hidden_size=32),
    "llama_mlp": llama(intermediate_size=32),
    "llama_heads": llama(num_key_value_heads=2),
    "llama_deep": llama(num_hidden_layers=3),
    "llama_words": llama(vocab_size=40),
    "llama_other": llama(),  # other values in the same shapes
    "mistral": MistralConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**TEXT),
    "phi3": Phi3Config(**SIZES, pad_token_id=0),
    "gemma3_text": Gemma3TextConfig(**TEXT),
    "gemma3": vision_language(),
    "gemma3_deep_tower": vision_language(num_hidden_layers=3),
    "mixtral_four": MixtralConfig(**SIZES | {"num_local_experts": 4, "num_hidden_layers": 3}),
    "mixtral_wide": MixtralConfig(**SIZES | {"num_local_experts": 2, "num_hidden_layers": 3, "intermediate_size": 32}),
    "qwen2_moe_four": Qwen2MoeConfig(
        **SIZES | EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 8, "num_hidden_layers": 3}
    ),
    "qwen3_moe": Qwen3MoeConfig(**TEXT, **EXPERTS),
    "gpt_oss": GptOssConfig(**TEXT, num_local_experts=2, num_experts_per_tok=1),
    "gpt_oss_four": GptOssConfig(**TEXT, num_local_experts=4, num_experts_per_tok=1),
    "gpt2_wide": GPT2Config(vocab_size=32, n_embd=32, n_layer=3, n_head=2, n_positions=16),
    "phi3_heads": Phi3Config(**SIZES | {"num_key_value_heads": 2}, pad_token_id=0),
    "gemma3_wide_tower": vision_language(hidden_size=32),
    "qwen3_moe_wide": Qwen3MoeConfig(**TEXT, **EXPERTS | {"moe_intermediate_size": 12}),
    **{name: AutoConfig.for_model(name, **SIZES) for name in ("cohere", "granite", "olmo2", "stablelm", "starcoder2", "phi")},
    "gptj": AutoConfig.for_model("gptj", vocab_size=32, n_embd=16, n_layer=2, n_head=2, n_positions=16, rotary_dim=4),
    "lfm2": AutoConfig.for_model("lfm2", **SIZES, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
    "roformer": AutoConfig.for_model(  # its head is tied, and has a name of its own
        "roformer", vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, is_decoder=True,
    ),
    "bamba": AutoConfig.for_model(  # its config.json has an `Infinity`
        "bamba", **SIZES, attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=8, mamba_d_state=4, mamba_chunk_size=4
    ),
    "mamba": AutoConfig.for_model("mamba", vocab_size=32, hidden_size=16, num_hidden_layers=2, state_size=4),
    "olmoe": AutoConfig.for_model("olmoe", **SIZES, num_experts=2, num_experts_per_tok=1),
    "granitemoe": AutoConfig.for_model("granitemoe", **SIZES, num_local_experts=2, num_experts_per_tok=1),
    "deepseek_v3": AutoConfig.for_model(
        "deepseek_v3", **SIZES | {"num_key_value_heads": 2}, moe_intermediate_size=8, n_routed_experts=4, n_group=1, topk_group=1,
        num_experts_per_tok=1, first_k_dense_replace=1, kv_lora_rank=4, q_lora_rank=4, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8,
    ),
}  # fmt: skip


class Bases:
    """The models, built and saved when one is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: dict[str, Any] = {}

    def folder(self, family: str) -> Path:
        self._of(family)
        return self.root / family

    def model(self, family: str) -> Any:
        """A copy of its own."""
        return copy.deepcopy(self._of(family))

    def _of(self, family: str) -> Any:
        if family not in self._made:
            torch.manual_seed(sum(map(ord, family)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                AutoModelForCausalLM.from_config(BASES[family]).save_pretrained(self.root / family)
                self._made[family] = AutoModelForCausalLM.from_pretrained(self.root / family)
        return self._made[family]
