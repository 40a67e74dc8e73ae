"""A tiny random model of every family in the catalogue, and of one with a vision tower: its published config with small figures, and a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_backend.models.catalogue import catalogue
from tests.tiny import CHAT_TEMPLATE, save_tokenizer

BLOCKS = 3
_PAIRS = [[["global", "local"], 1], [["global"], 1]]
_SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "block_ff_dim", "shared_intermediate_size"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), BLOCKS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    "num_key_value_heads": 2,
    **dict.fromkeys(("head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "query_pre_attn_scalar"), 8),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank"), 8),
    "rotary_dim": 4,
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace", "moe_layer_start_index"), 1),
    "moe_layer_end_index": BLOCKS - 1,
    **dict.fromkeys(("sliding_window", "window_size", "sliding_window_pattern"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 128),
    "attention_types": _PAIRS,
    "full_attn_idxs": [1],
    "block_multiple_of": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
"""Of each key that gives a size, by whatever name a family has for it."""
_OF_FAMILY: dict[str, dict[str, Any]] = {
    "phi": {"partial_rotary_factor": 0.5},
    "granitemoehybrid": {
        "num_local_experts": 0,
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
    },  # without experts, as published
    "deepseek_v2": {"num_key_value_heads": 4},
    "deepseek_v3": {"num_key_value_heads": 4},
}
"""What goes together in a family alone."""
_LEFT_OUT = ("rope_scaling", "original_max_position_embeddings", "quantization_config")
"""Factors for lengths that a tiny model does not have, and how published weights are packed: these are whole."""
TOWER = "gemma3"
"""A language model with a vision tower beside it, of which the catalogue has none."""
FAMILIES: tuple[str, ...] = (*dict.fromkeys(model.model_type for model in catalogue()), TOWER)

STRICT = FAMILIES[::4]
STRICT_TEMPLATE = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system turn, please') }}{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% endfor %}"
"""As some published templates have it: no turn of the system, and question and answer in turn."""


def tiny_config(family: str, vocabulary: int) -> dict[str, Any]:
    """What the first model of the family says in its config.json, in small."""
    if family == TOWER:
        vision = {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        }
        text = tiny_config("gemma3_text", vocabulary)
        return {"model_type": TOWER, "text_config": text, "vision_config": vision, "mm_tokens_per_image": 4}
    published = next(model.config for model in catalogue() if model.model_type == family)
    made: dict[str, Any] = {key: _SMALL.get(key, value) for key, value in published.items() if key not in _LEFT_OUT}
    for key in ("layer_types", "no_rope_layers", "mlp_only_layers"):
        if isinstance(made.get(key), list):
            made[key] = made[key][:BLOCKS]
    return made | _OF_FAMILY.get(family, {}) | {"vocab_size": vocabulary}


def make_family(folder: Path, family: str) -> Path:
    """Save the family's tiny model as a folder that transformers loads."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    vocabulary = _save_bytes(folder) if family == "qwen2" else save_tokenizer(folder)
    if family in STRICT:
        (folder / "chat_template.jinja").write_text(STRICT_TEMPLATE + CHAT_TEMPLATE, "utf-8")
    values = tiny_config(family, vocabulary)
    torch.manual_seed(0)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


def _save_bytes(folder: Path) -> int:
    """A tokenizer of single bytes, by the only class that transformers takes for this family."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    tokens = ["<unk>", "<s>", "</s>", "<pad>", *sorted(ByteLevel.alphabet())]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    made = Qwen2Tokenizer(
        vocab=vocabulary, merges=[], unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    made.save_pretrained(folder)
    return len(made)
