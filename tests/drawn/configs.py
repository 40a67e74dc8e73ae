"""Configs drawn by lot: a family's tiny model, and settings of every kind, good ones and bad ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from lora_backend.config.options import Attention, Optimizer, Scheduler
from lora_backend.models.describe import ModelDescription, describe_model
from tests.drawn.families import BLOCKS, FAMILIES

NUMBER_DRAWN = 245
"""Five for each family."""
SLOW_OPTIMIZERS = ("adamw_torch_4bit", "adamw_torch_8bit")  # torch compiles them for half a minute
ODD_DATA = 0.5
"""Share of the configs whose data has odd rows."""
ODD_KINDS = (
    "chats", "system", "twice_asked", "long_prompts", "one_long_prompt", "long_answers", "one_row", "twice", "a_bad_row",
    "empty_answers", "all_bad", "texts", "sharegpt", "untrained",
)  # fmt: skip
Draw = Callable[[random.Random, ModelDescription], dict[str, Any]]


def drawn(
    number: int, model_of: Callable[[str], Path], dataset: Path, odd_of: Callable[[str], Path] | None = None
) -> dict[str, Any]:
    """The config of this number, always the same. `odd_of`: data sets with odd rows, of which some take one."""
    lot = random.Random(number)
    family = FAMILIES[number % len(FAMILIES)]
    folder = model_of(family)
    model = describe_model(folder)
    values: dict[str, Any] = {
        "model_name": str(folder), "dataset": str(dataset), "max_steps": 2, "batch_size": 2, "logging_steps": 1,
        "precision": "fp32",
    }  # fmt: skip
    values |= _targets(lot, model)
    for chance, draw in OTHERS:
        if lot.random() < chance:
            values |= draw(lot, model)
    if odd_of is not None and lot.random() < ODD_DATA:
        values |= {"dataset": str(odd_of(lot.choice(ODD_KINDS))), **_rows(lot)}
    return {key: value for key, value in values.items() if value is not None}


def _endings(model: ModelDescription) -> list[str]:
    return list(model.linear_modules) or ["q_proj"]


def _some(lot: random.Random, things: Sequence[Any], most: int = 4) -> list[Any]:
    return lot.sample(list(things), lot.randint(1, min(most, len(things))))


def _targets(lot: random.Random, model: ModelDescription) -> dict[str, Any]:
    endings, names = _endings(model), list(model.linear_names)
    kinds: list[Callable[[], Any]] = [
        lambda: "all-linear",
        lambda: _some(lot, endings),
        lambda: [name.split(".", 1)[1] for name in _some(lot, names, 2)] if names else endings,
        lambda: _some(lot, names, 3) or endings,
        lambda: [".".join(name.split(".")[-2:]) for name in _some(lot, names, 2)] if names else endings,
        lambda: rf".*\.({'|'.join(_some(lot, endings))})",
        lambda: rf".*layers\.[0-1]\..*({'|'.join(_some(lot, endings))})",
        lambda: [*_some(lot, endings, 2), lot.choice(["lm_head", "embed_tokens", *model.outer_modules])],
        lambda: ["gate_proj", "up_proj", "down_proj"],
        lambda: ["q_proj", "v_proj"],
        lambda: ["experts", "gate_up_proj", "down_proj"],
        lambda: [lot.choice(["mlp", "self_attn", "input_layernorm", "norm"])],
        lambda: lot.choice(["all_linear", "linear", ".*", "q_proj"]),
    ]
    weights = [8, 10, 2, 2, 4, 4, 2, 3, 1, 1, 1, 1, 1]
    return {"target_modules": lot.choices(kinds, weights)[0]()}


def _layers(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return {
        "target_layers": lot.choices(
            [[0], [1, 2], [BLOCKS - 1], [0, 2], list(range(BLOCKS)), [BLOCKS]], [4, 4, 4, 4, 4, 1]
        )[0]
    }


def _ranks(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    rank = lot.choice([1, 2, 4, 8, 16, 64, 128])
    return {"r": rank, "alpha": lot.choice([rank, 2 * rank, 1, 16, 0.5])}


def _patterns(lot: random.Random, model: ModelDescription) -> dict[str, Any]:
    names = list(model.linear_names) or ["q_proj"]
    key = lot.choice([lot.choice(_endings(model)), lot.choice(names), rf".*{lot.choice(_endings(model))}", "nothing"])
    made: dict[str, Any] = {"rank_pattern": {key: lot.choice([1, 3, 8])}}
    return made | ({"alpha_pattern": {key: lot.choice([1, 4.5])}} if lot.random() < 0.5 else {})


def _saved_whole(lot: random.Random, model: ModelDescription) -> dict[str, Any]:
    choices = ["lm_head", "embed_tokens", "norm", *model.outer_modules, *_endings(model)[:2], "score"]
    return {"modules_to_save": _some(lot, sorted(set(choices)), 2)}


def _kind(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return lot.choice(
        [
            {"use_dora": True},
            {"use_rslora": True},
            {"use_dora": True, "use_rslora": True},
            {"bias": "all"},
            {"bias": "lora_only"},
            {"lora_dropout": lot.choice([0.05, 0.5])},
            {"use_dora": True, "lora_dropout": 0.1, "bias": "all"},
        ]
    )


def _start(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return {"init_lora_weights": lot.choice([False, "gaussian", "pissa", "olora", "orthogonal"])}


def _optimizer(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    words = [word for word in get_args(Optimizer) if word not in SLOW_OPTIMIZERS]
    words += ["adamw_torch_fused", "adafactor", "sgd", "rmsprop", "adamw_8bit"] * 2
    return {"optim": lot.choice(words), "weight_decay": lot.choice([0.0, 0.1]), "max_grad_norm": lot.choice([0, 0.5])}


def _schedule(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return {"lr_scheduler_type": lot.choice(get_args(Scheduler)), "warmup_ratio": lot.choice([0.0, 0.5, 0.9])}


def _precision(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return {"precision": lot.choices(["bf16", "auto", "fp16", "fp32"], [6, 2, 1, 1])[0]}


def _attention(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return {
        "attn_implementation": lot.choice(
            [*get_args(Attention), *["eager", "sdpa"] * 5, "kernels-community/flash-attn2"]
        )
    }


def _quantization(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return {"quantization": lot.choice(["nf4", "int8"])}


def _memory(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return {"gradient_checkpointing": lot.random() < 0.7, "loss_type": lot.choice(["nll", "chunked_nll"])}


def _evaluation(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    strategy = lot.choice(["steps", "epoch", "no"])
    return {
        "val_size": lot.choice([0.25, 0.5]), "eval_strategy": strategy, "eval_steps": lot.choice([None, 1, 2]),
        "save_steps": lot.choice([1, 2, 500]), "save_total_limit": lot.choice([1, 3]), "seed": lot.randint(0, 9),
    }  # fmt: skip


def _lengths(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return {"max_length": lot.choice([8, 16, 128, 129, 1024])}


def _batches(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return lot.choice(
        [{"batch_size": 1}, {"batch_size": 2, "target_batch_size": 4}, {"batch_size": 8}, {"target_batch_size": 6}]
    )


def _rows(lot: random.Random) -> dict[str, Any]:
    """What becomes of rows that are odd."""
    kinds: list[dict[str, Any]] = [
        {}, {"truncation": "drop"}, {"truncation": "cut_prompt"}, {"train_on": "everything"}, {"train_on": "last_answer"},
        {"max_bad_rows": 2}, {"val_size": 0.5, "eval_strategy": "epoch"}, {"max_length": lot.choice([8, 64, 128])},
        {"max_length": lot.choice([8, 64, 1024]), "truncation": "drop"}, {"max_length": 32, "truncation": "cut_prompt"},
    ]  # fmt: skip
    return lot.choice(kinds) | lot.choice(kinds)


def _devices(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return lot.choice(
        [
            {"device_map": "cpu"},
            {"device_map": "auto"},
            {"device_map": "sequential"},
            {"device_map": {"": "cpu"}},
            {"use_balanced_device_map": True},
            {"use_balanced_device_map": True, "exclude_cpu": False},
        ]
    )


def _checks(lot: random.Random, _: ModelDescription) -> dict[str, Any]:
    return {"check_r_consistency": True, "strict_r_check": True}


OTHERS: tuple[tuple[float, Draw], ...] = (
    (0.5, _ranks), (0.25, _layers), (0.2, _patterns), (0.25, _saved_whole), (0.35, _kind), (0.2, _start), (0.3, _optimizer),
    (0.25, _schedule), (0.4, _precision), (0.25, _attention), (0.06, _quantization), (0.3, _memory), (0.3, _evaluation),
    (0.15, _lengths), (0.2, _batches), (0.12, _devices), (0.6, _checks),
)  # fmt: skip


def shown(values: dict[str, Any]) -> str:
    """In one line, without what all configs have."""
    left = {key: value for key, value in values.items() if key not in ("max_steps", "logging_steps")}
    return json.dumps(left | {key: Path(values[key]).name for key in ("model_name", "dataset")})
