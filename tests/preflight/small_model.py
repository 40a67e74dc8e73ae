"""A small model, as its config.json says it."""

from __future__ import annotations

FACTS = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8,
    "num_attention_heads": 16, "max_position_embeddings": 2048,
}  # fmt: skip
