"""A small random model of any causal family, made from its default config, and one real training step of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.adapter import attach_adapter

WIDTHS: dict[str, int] = {
    "hidden_size": 64, "n_embd": 64, "d_model": 64, "dim": 64, "n_embed": 64, "embedding_size": 64, "word_embed_proj_dim": 64,
    "intermediate_size": 96, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "expert_ffn_hidden_size": 32,
    "ffn_hidden_size": 96, "ffn_dim": 96, "n_inner": 96, "d_ff": 96, "dff": 96, "mlp_hidden_size": 96, "shared_intermediate_size": 32,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "kv_channels": 16,
    "vocab_size": 512, "vocab_size_per_layer_input": 512, "hidden_size_per_layer_input": 16,
    "num_local_experts": 4, "num_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "zero_expert_num": 2,
    "num_experts_per_tok": 2, "moe_topk": 2, "moe_k": 2, "top_k_experts": 2, "n_group": 1, "topk_group": 1,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 16,
    "max_position_embeddings": 256, "n_positions": 256, "sliding_window": 64,
}  # fmt: skip
"""Measures of the families' configs, by the names that they have there."""
ROWS, TOKENS = 1, 48
LARGEST_BYTES = 3 * 2**30
"""Of a model that is given real memory."""


def default_facts(model_type: str) -> dict[str, Any]:
    """The `config.json` that a family's config has by default."""
    return dict(CONFIG_MAPPING[model_type]().to_dict())


def small_models(model_type: str) -> Iterator[Any]:
    """Random models, the smallest first: all widths small; no experts or ranks changed; widths as they are by default."""
    heads = {key for key in WIDTHS if "head" in key or "rank" in key or "expert" in key or "group" in key}
    for without in (set(), heads, set(WIDTHS) - {"vocab_size"}):
        config = CONFIG_MAPPING[model_type]()
        for part in {id(one): one for one in (config, config.get_text_config(decoder=True))}.values():
            _shrink(part, {key: size for key, size in WIDTHS.items() if key not in without})
        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
            size_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
            if size_bytes > LARGEST_BYTES:
                continue
            torch.manual_seed(0)
            yield AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        except Exception:  # measures that do not go together
            continue


def _shrink(config: Any, widths: Mapping[str, int]) -> None:
    depth = next(
        (getattr(config, key) for key in ("num_hidden_layers", "n_layer", "num_layers") if getattr(config, key, None)),
        None,
    )
    for key, value in list(vars(config).items()):
        if isinstance(value, list) and depth and len(value) == depth:
            setattr(config, key, value[:4])
        elif key in widths and isinstance(value, int) and not isinstance(value, bool) and value > widths[key]:
            setattr(config, key, widths[key])
        elif key in ("num_hidden_layers", "n_layer", "num_layers") and isinstance(value, int) and value > 4:
            setattr(config, key, 4)
        elif key in ("pad_token_id", "eos_token_id", "bos_token_id", "image_token_id") and isinstance(value, int):
            with contextlib.suppress(Exception):
                setattr(config, key, min(value, 1))


def own_step(model_type: str) -> str:
    """ "" where one forward and backward pass of a small model with an adapter runs on the CPU, else why not."""
    why = "no small model can be built"
    for model in small_models(model_type):
        try:
            wrapped = attach_adapter(model, TrainingConfig(model_name="any", precision="fp32"))
            wrapped.train()
            ids = torch.randint(2, 100, (ROWS, TOKENS))
            wrapped(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        return ""
    return why
