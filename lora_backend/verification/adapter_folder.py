"""An adapter on disk, read from its headers alone: its config, its LoRA layers, and what is odd about its files."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.errors import ModelError
from lora_backend.expressions.question import Question
from lora_backend.i18n import N_
from lora_backend.models.describe import read_json_object
from lora_backend.models.headers import TensorInfo, read_folder_headers, read_header
from lora_backend.verification.coverage import Targets, targets_of
from lora_backend.verification.ranks import asks_for_adalora
from lora_backend.verification.shapes import WRAPPER_PARTS, LoraLayer, canonical_name

PEFT_PREFIX = "base_model.model."
LEFT_OVER = re.compile(rf"\.({'|'.join(sorted(WRAPPER_PARTS))}|module)\.")
SHARD = re.compile(r"adapter_model-(\d+)-of-(\d+)\.safetensors")
MAGNITUDE = ".lora_magnitude_vector"
USUAL_ENDINGS = (".lora_A.weight", ".lora_B.weight")
HALVES = ("A", "B", "embedding_A", "embedding_B", "E")
CHECKPOINT = re.compile(r"checkpoint-\d{1,18}")

ReadBin = Callable[[Path], dict[str, TensorInfo]]


@dataclass(frozen=True)
class AdapterFolder:
    """What a folder holds."""

    config: dict[str, Any]
    layers: tuple[LoraLayer, ...]
    warnings: tuple[str, ...]
    saved_whole: tuple[str, ...]
    """Canonical names of the modules that are saved beside the LoRA layers."""
    tensors: Mapping[str, TensorInfo]
    """All of the file, by the names that it has there."""
    dropped: tuple[str, ...] = ()
    """Those of them that PEFT would find no place for in any model."""


def read_adapter_config(folder: Path) -> dict[str, Any] | None:
    """`adapter_config.json` of an adapter folder; None where it has none. Raises `ModelError` if it is unreadable."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    found = read_json_object(path)
    with path.open("rb") as file:
        if file.read(len(BOM_UTF8)) == BOM_UTF8:
            raise ModelError(
                N_("{path} begins with a byte order mark, which PEFT does not read. Save it as UTF-8 without one."),
                path=str(path),
            )
    return found


def adapter_within(folder: Path) -> Path:
    """Where the adapter of a folder is: a checkpoint of ours has it in `adapter/`, one of transformers at its top."""
    top, inner = folder / "adapter_config.json", folder / "adapter"
    is_inner = CHECKPOINT.fullmatch(folder.name) and not top.exists() and (inner / "adapter_config.json").exists()
    return inner if is_inner else folder


def subfolders_with_adapters(folder: Path) -> list[str]:
    """Names of the folders right below that hold an adapter."""
    return sorted(str(path.parent.relative_to(folder)) for path in folder.glob("*/adapter_config.json"))


def read_adapter_folder(
    folder: Path, config: dict[str, Any], read_bin: ReadBin | None = None, question: Question | None = None
) -> AdapterFolder:
    """Read the headers of a LoRA adapter. Raises `ModelError` for bytes that are not safetensors, and for `.bin` alone;
    `ExpressionError` where an expression of `config` takes too long, as part of `question`.

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
    halves = {key: split_lora_key(key) for key in tensors}
    pairs, targets = _pair(tensors, halves, _magnitudes(tensors, halves)), targets_of(config, question=question)
    if targets.parameters:
        targets.prepare(layer.pattern_name for layer in pairs)
    layers = [_with_config(layer, config, targets) for layer in pairs]
    warnings = []
    if has_safetensors and has_bin:
        warnings.append("two_weight_files")
    if has_safetensors and not (folder / "adapter_model.safetensors").is_file():
        warnings.append("sharded")
    owners, names = {found[0] for found in halves.values() if found}, ("default", folder.name)
    is_adalora = asks_for_adalora(config)
    dropped = tuple(key for key, half in halves.items() if not _will_load(key, half, owners, names, is_adalora))
    if dropped:
        warnings.append("keys_will_not_load")
    saved_whole = {canonical_name(key).rpartition(".")[0]: None for key in tensors if ".lora_" not in key}
    return AdapterFolder(config, tuple(layers), tuple(warnings), tuple(saved_whole), tensors, dropped)


def is_pickled(folder: Path) -> bool:
    """Whether the folder's weights are in `adapter_model.bin` alone, which only torch can open safely."""
    return (folder / "adapter_model.bin").is_file() and not any(folder.glob("adapter_model*.safetensors"))


def read_adapter_headers(folder: Path) -> dict[str, TensorInfo]:
    """Name → shape of all adapter tensors: one file, PEFT's shards, or those that transformers writes."""
    tensors = read_folder_headers(folder, "adapter_model")
    if tensors:
        return tensors
    for shard in _shards(folder):
        tensors |= read_header(shard)
    return tensors


def _shards(folder: Path) -> Iterator[Path]:
    """Every shard that there should be, by the count in the names of those that are there; one that is gone cannot be
    read, and the reader says so."""
    names = [found for path in folder.glob("adapter_model-*-of-*.safetensors") if (found := SHARD.fullmatch(path.name))]
    for total in sorted({found[2] for found in names}):
        for number in range(1, int(total) + 1):
            yield folder / f"adapter_model-{number:0{len(total)}d}-of-{total}.safetensors"


def _will_load(
    key: str, half: tuple[str, str] | None, owners: Container[str], names: Sequence[str], is_adalora: bool
) -> bool:
    """Whether PEFT finds a place for a key: below its own prefix, with no mark of another wrapper, nothing but the
    adapter's name between a half and its `weight`, and inside of a wrapped module only where that has a LoRA too.

    PEFT: `_insert_adapter_name_into_state_dict` in peft/utils/save_and_load.py. `half` is the key as `split_lora_key`
    cuts it, `owners` all modules with a half, `names` what the adapter may be called when it is loaded. The halves of
    embeddings and of AdaLoRA are parameters, and have no `weight`.
    """
    if not key.startswith(PEFT_PREFIX) or key.startswith(PEFT_PREFIX, len(PEFT_PREFIX)) or LEFT_OVER.search(key):
        return False
    if half is None or (key.endswith(USUAL_ENDINGS) and ".base_layer" not in key and not is_adalora):
        return True
    module, part = half
    outer, inside, _ = module.rpartition(".base_layer")
    tail = key[len(module) + len(part) + 2 :]
    is_parameter = part.startswith("lora_embedding") or is_adalora
    places = ["", *names] if is_parameter else ["weight", *(f"{name}.weight" for name in names)]
    return tail in places and (not inside or outer in owners)


def split_lora_key(key: str) -> tuple[str, str] | None:
    """`….q_proj.lora_A.weight` → (`….q_proj`, `lora_A`); None for biases, magnitudes and what is no LoRA at all.

    An adapter's name may stand behind the half, as in a live model's state dict.
    """
    module, found, tail = key.partition(".lora_")
    half, *rest = tail.split(".")
    if "._" in tail:  # a half that was compiled or sharded by itself
        rest = [part for part in rest if part not in WRAPPER_PARTS]
    if not found or half not in HALVES or len(rest) > 2 or rest[-1:] == ["bias"]:
        return None
    return module, f"lora_{half}"


def _magnitudes(
    tensors: Mapping[str, TensorInfo], halves: Mapping[str, tuple[str, str] | None]
) -> dict[str, tuple[int, ...]]:
    """Module → shape of DoRA's magnitude vector, whatever stands behind its name in the key."""
    parts = ((key.partition(MAGNITUDE), tensors[key].shape) for key, half in halves.items() if half is None)
    return {module: shape for (module, found, tail), shape in parts if found and tail[:1] in ("", ".")}


def _pair(
    tensors: Mapping[str, TensorInfo],
    halves: Mapping[str, tuple[str, str] | None],
    magnitudes: Mapping[str, tuple[int, ...]],
) -> list[LoraLayer]:
    """The two halves of each module → one layer; a half that is not there is None."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, found in halves.items():
        if found:
            module, half = found
            shapes.setdefault(module, {})[half] = tensors[key].shape
    for module in magnitudes:
        shapes.setdefault(module, {})
    layers = (_layer(module, found, shapes) for module, found in shapes.items())
    if not magnitudes:
        return list(layers)
    return [layer._replace(magnitude=magnitudes.get(module)) for module, layer in zip(shapes, layers, strict=True)]


def _layer(module: str, halves: Mapping[str, tuple[int, ...]], all_shapes: Mapping[str, Any]) -> LoraLayer:
    return _plain_layer(module, halves, all_shapes)._replace(file_name=module)


def _plain_layer(module: str, halves: Mapping[str, tuple[int, ...]], all_shapes: Mapping[str, Any]) -> LoraLayer:
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


def _with_config(layer: LoraLayer, config: Mapping[str, Any], targets: Targets) -> LoraLayer:
    """What the headers do not show and the adapter's own config does."""
    enabled = config.get("enable_lora")
    if enabled and layer.shape_b and len(layer.shape_b) == 3:
        return layer._replace(kind="merged", num_experts=sum(map(bool, enabled)))
    if holds_experts(layer.pattern_name, targets):
        return layer._replace(kind="experts", num_experts=None)
    blocks = bd_blocks(layer.name, config)
    return layer if blocks == 1 or layer.groups is None else layer._replace(groups=layer.groups * blocks)


def holds_experts(module: str, targets: Targets) -> bool:
    """Whether `target_parameters` asks for a parameter of `module`.

    An entry without an owner (`gate_up_proj`, as PEFT writes it for Mixtral) asks for any module's, so a module that
    is not targeted as one must carry it.
    """
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
