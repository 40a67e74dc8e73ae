"""What is known of model and machine in the examples of several rules."""

from __future__ import annotations

from lora_backend.config.rules.rule_input import Facts, GpuFact
from lora_backend.i18n import Message

AMPERE = GpuFact("NVIDIA A100", (8, 0))
TURING = GpuFact("NVIDIA T4", (7, 5))
LLAMA = Facts(
    num_blocks=32,
    linear_names=("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"),
    linear_modules=("q_proj", "v_proj"),
    outer_modules=("embed_tokens", "lm_head"),
)


def missing_file(key: str, template: str, path: str) -> Facts:
    """A file that stands in the way, with the sentence of who looked for it."""
    return Facts(problems=(("warning", key, Message(template, {"path": path})),))
