"""An adapter on disk, read from its headers alone: its config, its LoRA layers, and what is odd about its files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.models.describe import read_json_object
from lora_backend.models.headers import TensorInfo, read_folder_headers, read_header
from lora_backend.verification.coverage import targets_of
from lora_backend.verification.shapes import LoraLayer, canonical_name

PEFT_PREFIX = "base_model.model."
LEFT_OVER = re.compile(r"\.(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
HALVES = ("A", "B", "embedding_A", "embedding_B", "E")


ReadBin = Callable[[Path], dict[str, TensorInfo]]


@dataclass(frozen=True)
class AdapterFolder:
    """What a folder holds."""

    config: dict[str, Any]
    layers: tuple[LoraLayer, ...]
    warnings: tuple[str, ...]
    saved_whole: tuple[str, ...]
    """Canonical names of the modules that are saved beside the LoRA layers."""


def read_adapter_config(folder: Path) -> dict[str, Any] | None:
    """`adapter_config.json` of an adapter folder; None where it has none. Raises `ModelError` if it is unreadable."""
    path = folder / "adapter_config.json"
    return read_json_object(path) if path.is_file() else None


def subfolders_with_adapters(folder: Path) -> list[str]:
    """Names of the folders right below that hold an adapter."""
    return sorted(str(path.parent.relative_to(folder)) for path in folder.glob("*/adapter_config.json"))


def read_adapter_folder(folder: Path, config: dict[str, Any], read_bin: ReadBin | None = None) -> AdapterFolder:
    """Read the headers of a LoRA adapter. Raises `ModelError` for bytes that are not safetensors, and for `.bin` alone.

    A `.bin` file is pickled Python; only torch can open one without running what it holds, so that is handed in.
    """
    tensors = read_adapter_headers(folder)
    bin_file = folder / "adapter_model.bin"
    has_bin, has_safetensors = bin_file.is_file(), bool(tensors)
    if has_bin and not tensors and read_bin:
        tensors = read_bin(bin_file)
    if not tensors and has_bin:
        raise ModelError(
            N_(
                "The adapter in {path} is stored as adapter_model.bin, which cannot be read without torch. Save it again as safetensors, or open it on the Verify page."
            ),
            path=str(folder),
        )
    layers = [_with_config(layer, config) for layer in pair_tensors(tensors)]
    warnings = []
    if has_safetensors and has_bin:
        warnings.append("two_weight_files")
    if any(not _will_load(key) for key in tensors):
        warnings.append("keys_will_not_load")
    saved_whole = {canonical_name(key).rpartition(".")[0]: None for key in tensors if ".lora_" not in key}
    return AdapterFolder(config, tuple(layers), tuple(warnings), tuple(saved_whole))


def is_pickled(folder: Path) -> bool:
    """Whether the folder's weights are in `adapter_model.bin` alone, which only torch can open safely."""
    return (folder / "adapter_model.bin").is_file() and not any(folder.glob("adapter_model*.safetensors"))


def read_adapter_headers(folder: Path) -> dict[str, TensorInfo]:
    """Name → shape of all adapter tensors: one file, PEFT's shards, or those that transformers writes."""
    tensors = read_folder_headers(folder, "adapter_model")
    if tensors:
        return tensors
    for shard in sorted(folder.glob("adapter_model-*-of-*.safetensors")):
        tensors |= read_header(shard)
    return tensors


def _will_load(key: str) -> bool:
    """PEFT loads keys below its own prefix, in which no other wrapper has left its mark."""
    rest = key.removeprefix(PEFT_PREFIX)
    return rest != key and not LEFT_OVER.search(key) and not rest.startswith((PEFT_PREFIX, "module."))


def split_lora_key(key: str) -> tuple[str, str] | None:
    """`….q_proj.lora_A.weight` → (`….q_proj`, `lora_A`); None for biases, magnitudes and what is no LoRA at all.

    An adapter's name may stand behind the half, as in a live model's state dict.
    """
    module, found, tail = key.partition(".lora_")
    half, *rest = tail.split(".")
    if not found or half not in HALVES or len(rest) > 2 or rest[-1:] == ["bias"]:
        return None
    return module, f"lora_{half}"


def pair_tensors(tensors: Mapping[str, TensorInfo]) -> list[LoraLayer]:
    """The two halves of each module → one layer; a half that is not there is None."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, tensor in tensors.items():
        if found := split_lora_key(key):
            module, half = found
            shapes.setdefault(module, {})[half] = tensor.shape
    return [_layer(module, halves, shapes) for module, halves in shapes.items()]


def _layer(module: str, halves: Mapping[str, tuple[int, ...]], all_shapes: Mapping[str, Any]) -> LoraLayer:
    name = canonical_name(module)
    if "lora_embedding_A" in halves or "lora_embedding_B" in halves:
        return LoraLayer(name, halves.get("lora_embedding_A"), halves.get("lora_embedding_B"), "embedding")
    shape_a, shape_b = halves.get("lora_A"), halves.get("lora_B")
    if "lora_E" in halves:
        return LoraLayer(name, shape_a, shape_b, "adalora")
    if shape_a and len(shape_a) > 2:
        return LoraLayer(name, shape_a, shape_b, "conv", groups=None)
    # The output projection of a MultiheadAttention lies inside the wrapped module and follows its parent's rank.
    parent, inside, _ = module.rpartition(".base_layer.out_proj")
    rule_name = canonical_name(parent) if inside and parent in all_shapes else None
    return LoraLayer(name, shape_a, shape_b, rule_name=rule_name)


def _with_config(layer: LoraLayer, config: Mapping[str, Any]) -> LoraLayer:
    """What the headers do not show and the adapter's own config does."""
    enabled = config.get("enable_lora")
    if enabled and layer.shape_b and len(layer.shape_b) == 3:
        return layer._replace(kind="merged", num_experts=sum(map(bool, enabled)))
    if _holds_experts(layer.pattern_name, config):
        return layer._replace(kind="experts", num_experts=None)
    blocks = bd_blocks(layer.name, config)
    return layer if blocks == 1 or layer.groups is None else layer._replace(groups=layer.groups * blocks)


def _holds_experts(module: str, config: Mapping[str, Any]) -> bool:
    """Whether `target_parameters` asks for a parameter of `module`.

    An entry without an owner (`gate_up_proj`, as PEFT writes it for Mixtral) asks for any module's, so a module that
    is not targeted as one must carry it.
    """
    if not config.get("target_parameters"):
        return False
    targets = targets_of(config)
    owners = [entry.rpartition(".")[0] for entry in targets.parameters]
    return any(_ends(module, owner) if owner else not targets.matches(module) for owner in owners)


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def bd_blocks(name: str, config: Mapping[str, Any]) -> int:
    """By how many BD-LoRA divides the rank in B's shape: its blocks where B is block-diagonal, else 1.

    PEFT: `BdLoraLinearVariant.init`, “pattern is in target_name”.
    """
    bd = config.get("use_bdlora")
    if not bd:
        return 1
    plain = bd if isinstance(bd, Mapping) else getattr(bd, "__dict__", {})
    is_block_diagonal = any(pattern in name for pattern in plain.get("target_modules_bd_b") or [])
    return int(plain.get("nblocks") or 1) if is_block_diagonal else 1
