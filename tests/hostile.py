"""Inputs that are made to keep everybody waiting: expressions, models and files. Tests and a benchmark pose them."""

from __future__ import annotations

from typing import Any

from tests.hostile_files import HOSTILE_FILES as HOSTILE_FILES

NAMES = tuple(
    f"model.layers.{block}.{module}"
    for block in (0, 1, 10, 31)
    for module in ("self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.experts.7.down_proj")
)
"""Names of a model's layers, as the catalogue's families have them."""

SLOW_EXPRESSIONS: tuple[str, ...] = (
    # repeats in repeats
    r"([\w.]+)+!", r"([\w.]*)*!", r"([\w.]+)*!", r"([\w.]*)+!", r"(?:[\w.]+)+!", r"(?P<n>[\w.]+)+!", r"((([\w.]+)+)+)+!",
    r"([\w.]+?)+?!", r"([\w.]+)+\d{9}!", r"(.+)+!", r"(.*)*!", r"(.+.+)+!", r"(.*.*)*!", r"(\S+)+!", r"([^!]+)+!",
    r"([a-z._0-9]+)+!", r"(\w+\.?)+!", r"(\w+[._]?)*!", r"([\w.]+[\w.]+)+!", r"(?:.?.?)+!", r"(?i:[A-Z._0-9]+)+!",
    r"([\w.]{1,}){1,}!", r"([\w.]{1,9}){9,}!", r"([\w.]{0,5})*!", r"(([\w.]{1,5}){1,5}){1,9}!", r"([\w.]|[\w.]+)+!",
    # alternatives that mean the same
    r"(\w|[\w.]|..)+!", r"(?:[a-z_.]+|[0-9]+|\w+)*!", r"(.|..)+!", r"(.|.|.)+!", r"(m|o|d|e|l|\w|\.|.)+!", r"(?:(?:.)|(?:\w))+!",
    # one after the other
    ".*" * 12 + "!", r"\w*[\w.]*" * 8 + "!", "(.?)" * 31 + ".*!", "[^!]*" * 10 + "!",
    # what stands before, behind, or was found already
    r"(?=([\w.]+)+!).*", r"(?!([\w.]+)+!)(x|.)+x!", r"([\w.]+)+(?<=!)", "".join(rf"(.+)\{number}?" for number in range(1, 10)) + "!", r"((.+)\2?)+!",
    r"((?:.+)+)\1!", r"(?(1)x|([\w.]+)+!)",
    # large, and of other writing
    "(" + "|".join(["[\\w.]"] * 400) + ")+!", "(" * 60 + r"[\w.]+" + ")+" * 60 + "!", r"([\w.é模型]+)+!", r"([\w.\U0001F600]+)+!",
    "(?:[\\w.]+|" + "|".join(f"module_{number}" for number in range(8_000)) + ")+!", "|".join(["([\\w.]+)+!"] * 8_000),
)  # fmt: skip
"""Each takes minutes at least on names like these, and most of them longer than the earth has been there."""

ODD_EXPRESSIONS: tuple[str, ...] = (
    "((((a?){9}){9}){9}){9}", "a{99999999999999}", "a{" + "9" * 5000 + "}", "(" * 3000 + ")" * 3000, "(" * 90, "[" * 90, "(?P<x>",
    r"\1", "*", "+q", "q**", "(?i)q_proj", "(?x) q _ p", "q)(p", "[z-a]", "(?<=.*)q", "(?<!layers)q_proj", "\\", "", "$", "^", "\0",
    "|".join(f"x{number}" for number in range(20_000)), "é" * 50_000, "q_proj\n",
)  # fmt: skip
"""At once told, whatever they are: broken, empty, or merely long."""


def _llama(**changes: Any) -> dict[str, Any]:
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 32, "max_position_embeddings": 64, **changes,
    }  # fmt: skip


def _mixtral(**changes: Any) -> dict[str, Any]:
    family = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_experts_per_tok": 2}
    return _llama(**family | {"num_local_experts": 4} | changes)


HOSTILE_MODELS: dict[str, dict[str, Any]] = {
    "2,000 blocks": _llama(num_hidden_layers=2_000),
    "a billion blocks": _llama(num_hidden_layers=10**9),
    "a number of four thousand digits": _llama(num_hidden_layers=10**4_000),
    "blocks under another name": {"model_type": "gpt2", "n_layer": 10**9, "n_embd": 8, "n_head": 2, "vocab_size": 32},
    "a list of 5,000 kinds of block": _llama(model_type="qwen3", layer_types=["full_attention"] * 5_000),
    "a billion blocks of language beside vision": {"model_type": "gemma3", "text_config": _llama(num_hidden_layers=10**9)},
    "a billion blocks of vision": {"model_type": "gemma3", "text_config": _llama(), "vision_config": {"num_hidden_layers": 10**9}},
    "a billion experts": _mixtral(num_local_experts=10**9),
    "a million experts in all": _mixtral(num_hidden_layers=500, num_local_experts=2_000),
    "a billion labels": _llama(num_labels=10**9),
}  # fmt: skip
"""Contents of a `config.json`: title → keys."""

HOSTILE_ADDRESSES: dict[str, tuple[str, dict[str, str]]] = {
    "a count with a long gap": ("plan", {"gpus": "1x" + " " * 6_000 + "a\nb"}),
    "an amount of thousands of digits": ("plan", {"gpus": "1" * 6_000 + "!"}),
    "a thousand GPUs": ("plan", {"gpus": ",".join(["999999x24"] * 600)}),
    "a placement without end": ("plan", {"placement": "0x99999," * 700}),
    "a model with a long name": ("plan", {"model": "a/" + "b." * 3_000}),
    "a filter that is an expression": ("runs", {"filter": "(a+)+" * 1_000 + "!"}),
    "a folder with a deep path": ("runs", {"folder": "../" * 2_000}),
    "an adapter with a long path": ("verify", {"adapter": "a/" * 3_000}),
    "a device without end": ("verify", {"adapter": ".", "config": "/dev/zero"}),
}
"""What stands in a link: title → page and its parameters."""
