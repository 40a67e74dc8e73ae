"""A base model and an adapter by hand, and what can be wrong with the two."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

WIDTH, MIDDLE, WORDS, RANK = 6, 10, 9, 2

LINEAR = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.v_proj": (4, WIDTH), "mlp.down_proj": (WIDTH, MIDDLE)}
"""Module → (out, in)."""

FACTS = {"model_type": "llama", "num_hidden_layers": 2, "vocab_size": WORDS, "tie_word_embeddings": False}

OWN = {
    "peft_type": "LORA", "r": RANK, "lora_alpha": 4, "target_modules": [name.rpartition(".")[2] for name in LINEAR],
    "task_type": "CAUSAL_LM",
}  # fmt: skip

Tensors = dict[str, Any]


def zeros(*shape: int, dtype: Any = np.float32) -> Any:
    return np.zeros(shape, dtype)


def base(folder: Path, facts: dict[str, Any] | None = None, change: Callable[[Tensors], Any] = lambda _: None) -> Path:
    """A base model of two blocks: its config and its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"model.embed_tokens.weight": zeros(WORDS, WIDTH), "lm_head.weight": zeros(WORDS, WIDTH)}
    tensors |= {"model.norm.weight": zeros(WIDTH)}
    for block in range(2):
        for name, shape in LINEAR.items():
            tensors[f"model.layers.{block}.{name}.weight"] = zeros(*shape)
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(FACTS | (facts or {})))
    return folder


def adapter(
    folder: Path, on: Path | str, own: dict[str, Any] | None = None, change: Callable[[Tensors], Any] = lambda _: None
) -> Path:
    """An adapter on every linear layer of `base`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: Tensors = {}
    for block in range(2):
        for name, (out, into) in LINEAR.items():
            tensors |= lora(f"model.layers.{block}.{name}", into, out)
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**OWN, "base_model_name_or_path": str(on), **(own or {})}))
    return folder


def lora(name: str, into: int, out: int) -> Tensors:
    half = f"base_model.model.{name}.lora_"
    return {f"{half}A.weight": zeros(RANK, into), f"{half}B.weight": zeros(out, RANK)}


def move(tensors: Tensors, old: str, new: str) -> None:
    for name in [name for name in tensors if old in name]:
        tensors[name.replace(old, new)] = tensors.pop(name)


Q1 = "model.layers.1.self_attn.q_proj"

DAMAGE: dict[str, tuple[Callable[[Tensors], Any], str, str]] = {
    "name": (lambda t: move(t, "layers.1.", "language_model.layers.1."), "not_in_model", "model.language_model.layers.1.self_attn.q_proj.lora_A.weight"),
    "block": (lambda t: move(t, "layers.1.", "layers.7."), "not_in_model", "model.layers.7.self_attn.q_proj.lora_A.weight"),
    "wrapper": (lambda t: move(t, "layers.1.", "layers.1._orig_mod."), "not_in_model", "model.layers.1._orig_mod.self_attn.q_proj.lora_A.weight"),
    "half": (lambda t: t.pop(f"base_model.model.{Q1}.lora_B.weight"), "not_from_file", f"{Q1}.lora_B.weight"),
    "layer": (lambda t: [t.pop(name) for name in list(t) if Q1 in name], "not_from_file", Q1),
    "into": (lambda t: t.update({f"base_model.model.{Q1}.lora_A.weight": zeros(RANK, 3)}), "other_shape", f"{Q1}.lora_A.weight"),
    "out": (lambda t: t.update({f"base_model.model.{Q1}.lora_B.weight": zeros(3, RANK)}), "other_shape", f"{Q1}.lora_B.weight"),
    "swapped": (lambda t: t.update(lora("model.layers.0.mlp.down_proj", WIDTH, MIDDLE)), "other_shape", "model.layers.0.mlp.down_proj.lora_A.weight"),
    "vocabulary": (lambda t: t.update({"base_model.model.lm_head.weight": zeros(WORDS + 3, WIDTH)}), "other_shape", "lm_head.weight"),
    "bias": (lambda t: t.update({f"base_model.model.{Q1}.bias": zeros(WIDTH)}), "not_in_model", f"{Q1}.bias"),
}  # fmt: skip
"""What is done to the tensors, and what of it must be said first."""
