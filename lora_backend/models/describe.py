"""What a model's files say of it: blocks, positions, names of its linear layers, tokenizer, chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_backend.bounded import read_json
from lora_backend.errors import FileRefusedError, ModelError
from lora_backend.i18n import N_
from lora_backend.models.headers import TensorInfo, read_folder_headers
from lora_backend.models.model_limits import refuse_oversized

WEIGHTS = ("weight", "qweight", "weight_packed")
"""What a linear layer's weights are called, packed ones as well (GPTQ and AWQ, compressed-tensors)."""
HEADS = r"(^|\.)(lm_head|embed_out|output_layer)\.weight$"
"""Names of the output head among a model's tensors."""
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
"""Names under which configs count experts."""


@dataclass(frozen=True)
class ModelDescription:
    """Plain facts of one model folder; None where the files do not say."""

    model_type: str | None
    num_blocks: int | None
    max_positions: int | None
    """Tokens that the model was made for (`max_position_embeddings`)."""
    linear_names: tuple[str, ...]
    """Names of linear layers inside blocks, in the order of the file; empty without safetensors weights."""
    outer_modules: tuple[str, ...]
    """Endings of the names of two-dimensional weights outside of blocks, and of the head, which has no weights when tied."""
    has_tokenizer: bool
    has_chat_template: bool
    linear_width: Mapping[str, int] = field(default_factory=dict)
    """Ending of a linear layer's name → inputs plus outputs of all layers with that ending."""
    has_weights: bool = False
    has_experts: bool = False
    is_tied: bool | None = None
    """Whether the head is the embedding: what `config.json` says, else whether the files hold a head of its own."""

    @property
    def linear_modules(self) -> tuple[str, ...]:
        """Endings of the names of linear layers, each once: `q_proj`, `down_proj`, …"""
        return tuple(dict.fromkeys(name.rsplit(".", 1)[-1] for name in self.linear_names))


def read_model_config(path: Path) -> dict[str, Any]:
    """The `config.json` of a model folder, or the bare file. Raises `ModelError` where it cannot be read, or counts more
    blocks than can be built."""
    config = read_json_object(path / "config.json" if path.is_dir() else path)
    refuse_oversized(config)
    return config


def describe_model(path: Path, config: Mapping[str, Any] | None = None) -> ModelDescription:
    """Read the files of a model folder, or a bare `config.json`; not that one where its `config` is known already.

    Raises `ModelError` where they cannot be read, or count more blocks than can be built.
    """
    folder = path if path.is_dir() else path.parent
    config = read_model_config(path) if config is None else config
    # Vision-language configs keep the language model's facts one level down.
    text_config = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    tensors = read_folder_headers(folder, "model") if path.is_dir() else {}
    linear_names = _linear_names(tensors)
    return ModelDescription(
        model_type=config.get("model_type"),
        num_blocks=_whole(text_config, "num_hidden_layers", "n_layer", "num_layers"),
        max_positions=_whole(text_config, "max_position_embeddings", "n_positions"),
        linear_names=linear_names,
        outer_modules=_outer_modules(tensors),
        has_tokenizer=any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")),
        has_chat_template=_has_chat_template(folder),
        linear_width=_linear_width(tensors, linear_names),
        has_weights=path.is_dir() and any(path.glob("*.safetensors")),
        has_experts=any(type(text_config.get(name)) is int and text_config[name] > 1 for name in EXPERTS),
        is_tied=_is_tied(config, tensors),
    )


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model or an adapter. Raises `ModelError` where it cannot be read as one."""
    try:
        loaded = read_json(path)
    except FileRefusedError as error:
        raise ModelError(error.message.template, **error.message.values) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            N_("{path} is not a readable JSON file. Download or copy it again."), path=str(path)
        ) from error
    if not isinstance(loaded, dict):
        raise ModelError(N_("{path} contains no JSON object. Download or copy it again."), path=str(path))
    return loaded


def _whole(config: Any, *names: str) -> int | None:
    return next((config[name] for name in names if type(config.get(name)) is int), None)


def _linear_names(tensors: dict[str, TensorInfo]) -> tuple[str, ...]:
    """Two-dimensional weights under a numbered block: `model.layers.0.self_attn.q_proj.weight` is one."""
    names = (
        name.rpartition(".")[0]
        for name, tensor in tensors.items()
        if len(tensor.shape) == 2 and _is_in_block(name.split("."))
    )
    # Headers sort 10 before 2; people count.
    return tuple(
        sorted(names, key=lambda name: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)])
    )


def _outer_modules(tensors: Mapping[str, TensorInfo]) -> tuple[str, ...]:
    """Two-dimensional weights outside of blocks, and the head."""
    names = (
        name.removesuffix(".weight").rsplit(".", 1)[-1]
        for name, tensor in tensors.items()
        if len(tensor.shape) == 2 and name.endswith(".weight") and not re.search(r"(^|\.)\d+\.", name)
    )
    return tuple(dict.fromkeys([*names, "lm_head"]))


def _linear_width(tensors: Mapping[str, TensorInfo], linear_names: tuple[str, ...]) -> dict[str, int]:
    linear, widths = set(linear_names), dict[str, int]()
    for name, tensor in tensors.items():
        module = name.removesuffix(".weight")
        if module in linear:
            ending = module.rsplit(".", 1)[-1]
            widths[ending] = widths.get(ending, 0) + sum(tensor.shape)
    return widths


def _is_tied(config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> bool | None:
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        if isinstance(part.get("tie_word_embeddings"), bool):
            return bool(part["tie_word_embeddings"])
    return None if not tensors else not any(re.search(HEADS, name) for name in tensors)


def _is_in_block(parts: list[str]) -> bool:
    return (
        len(parts) > 2
        and parts[-1] in WEIGHTS
        and re.fullmatch(r"\w+", parts[-2]) is not None
        and any(map(str.isdecimal, parts[:-2]))
    )


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(read_json_object(config).get("chat_template"))
