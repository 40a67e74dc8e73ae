"""The tensors of a plain LoRA on disk as pairs of factors, each with the scale of its product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lora_backend.errors import ModelError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.verification.adapter_folder import (
    is_pickled,
    read_adapter_config,
    read_adapter_folder,
    split_lora_key,
)
from lora_backend.verification.ranks import rank_of, rank_rule
from lora_backend.verification.shapes import LoraLayer

FILE = "adapter_model.safetensors"
OTHER_FORMS = (
    "use_bdlora", "kasa_config", "velora_config", "monteclora_config", "arrow_config", "use_qalora", "megatron_config",
    "layer_replication", "ensure_weight_tying",
)  # fmt: skip
"""Keys of `adapter_config.json` under which a layer is more than scale·B·A of its own two factors."""
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")
"""Beginnings of `init_lora_weights` under which PEFT changes the base model by the rank when it loads the adapter."""


@dataclass(frozen=True)
class Pair:
    """One layer: its delta is scale·B·A; of an embedding its transpose."""

    layer: LoraLayer
    key_a: str
    key_b: str
    a: torch.Tensor
    """(r, in)."""
    b: torch.Tensor
    """(out, r)."""
    scale: float

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    @property
    def bytes_per_rank(self) -> int:
        """Of a column of B and a row of A, as they are stored."""
        return int(self.a.shape[1] * self.a.itemsize + self.b.shape[0] * self.b.itemsize)


@dataclass(frozen=True)
class LoraPairs:
    """An adapter whose every layer is a product of two factors."""

    config: dict[str, Any]
    pairs: tuple[Pair, ...]
    others: Mapping[str, torch.Tensor]
    """Magnitudes, biases, modules that are saved whole: by their names in the file."""
    file_bytes: int
    """Size of the weights' file."""


def read_pairs(folder: Path) -> LoraPairs:
    """Read an adapter's folder. Raises `ModelError` for one that is no plain LoRA in one safetensors file, that holds NaN,
    or whose factors do not go together; `ExpressionError` where a pattern of its config takes too long."""
    config = read_adapter_config(folder)
    if config is None:
        raise ModelError(
            N_("The folder {path} contains no adapter: it has no adapter_config.json. Name the folder that has one."),
            path=str(folder),
        )
    _refuse_other_forms(config)
    tensors = _tensors_of(folder)
    layers = read_adapter_folder(folder, config).layers
    rule = rank_rule(config, on_disk=True)
    rule.prepare(layer.pattern_name for layer in layers)
    halves: dict[str, dict[str, str]] = {}
    for key in tensors:
        if found := split_lora_key(key):
            halves.setdefault(found[0], {})[found[1][-1]] = key
    pairs = tuple(_pair(layer, halves[layer.file_name], tensors, rule.scaling_for) for layer in layers)
    if not pairs:
        raise ModelError(N_("The adapter in {path} has no LoRA layers. Choose another folder."), path=str(folder))
    used = {key for pair in pairs for key in (pair.key_a, pair.key_b)}
    others = {key: tensor for key, tensor in tensors.items() if key not in used}
    return LoraPairs(config, pairs, others, (folder / FILE).stat().st_size)


def _tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    if is_pickled(folder) or not (folder / FILE).is_file():
        raise ModelError(
            N_(
                "{path} contains no adapter_model.safetensors, and PEFT loads no other file. Save the adapter in one file again."
            ),
            path=str(folder),
        )
    try:
        tensors: dict[str, torch.Tensor] = load_file(folder / FILE)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            N_("The file {path} is damaged ({reason}). Copy or save it again."),
            path=str(folder / FILE),
            reason=first_line(error),
        ) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                N_("`{name}` in {path} contains NaN or infinity. Use an earlier checkpoint."),
                name=name,
                path=str(folder / FILE),
            )
    return tensors


def _refuse_other_forms(config: Mapping[str, Any]) -> None:
    for word in _other_forms(config):
        raise ModelError(
            N_("The adapter's config has `{key}`, under which its layers are no plain B·A. Export it at its own rank."),
            key=word,
        )


def _other_forms(config: Mapping[str, Any]) -> Iterator[str]:
    if config.get("peft_type") != "LORA":
        yield f"peft_type: {config.get('peft_type')}"
    yield from (key for key in OTHER_FORMS if config.get(key))
    start = str(config.get("init_lora_weights")).lower()
    if start.startswith(CHANGES_BASE):
        yield f"init_lora_weights: {start}"


def _pair(layer: LoraLayer, keys: Mapping[str, str], tensors: Mapping[str, torch.Tensor], scaling: Any) -> Pair:
    scale = scaling(layer.pattern_name)
    kinds = {"experts": N_("it holds packed experts"), "conv": N_("it is a convolution")}
    why = kinds.get(layer.kind, N_("it is of another form"))
    if layer.kind in ("linear", "embedding") and layer.rule_name is None:
        why = N_("its A and B do not go together")
        if isinstance(rank_of(layer), int) and len(layer.shape_a or ()) == len(layer.shape_b or ()) == 2:
            if scale is not None:
                return Pair(layer, keys["A"], keys["B"], tensors[keys["A"]], tensors[keys["B"]], scale)
            why = N_("adapter_config.json gives it no scale")
    raise ModelError(
        N_("{layer} cannot be truncated: {why}. Export the adapter at its own rank."),
        layer=layer.name,
        why=Message(why),
    )
