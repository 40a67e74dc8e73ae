"""How large everything is: on a card, and on a CPU where only the script itself is tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

QWEN_7B: dict[str, Any] = {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
    "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "max_position_embeddings": 32768,
    "hidden_act": "silu", "use_sliding_window": False, "bos_token_id": 151643, "eos_token_id": 151645,
}  # fmt: skip
"""Qwen2.5-7B's public config.json."""
PUBLISHED_TOKENS_PER_S = 14_110
"""Qwen2.5-7B, LoRA r 16, bf16, micro-batch 2 × 16 steps of 4,096 tokens, on one H100: NVIDIA NeMo Automodel, performance
summary. Mock data, no clipping, a LoRA kernel in Triton."""
SMALL: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 1024, "intermediate_size": 2816,
    "num_hidden_layers": 8, "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 32000,
    "max_position_embeddings": 4096, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, "tie_word_embeddings": False,
}  # fmt: skip
TINY = SMALL | {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 128,
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """What is trained, and how long its rows are."""

    small: dict[str, Any]
    large: dict[str, Any]
    row_tokens: int
    """Of the small model's rows; the rows of mixed length go up to it."""
    large_tokens: int
    micro_batch: int
    accumulation: int
    steps: int
    """Of the small trainings."""
    timed_steps: int
    """Optimizer steps of the large model that are timed, behind one that is not."""


ON_CARD = Sizes(SMALL, QWEN_7B, 1024, 4096, 2, 16, 12, 2)
ON_CPU = Sizes(TINY, TINY | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, 24, 16, 2, 2, 3, 1)
