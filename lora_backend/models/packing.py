"""How the linear layers of a quantized model lie in memory: told from `quantization`, or from a checkpoint's `config.json`.

Bytes follow what the libraries register: bitsandbytes (`functional.py`, `nn/modules.py`), gptqmodel 7.7
(`nn_modules/qlinear/__init__.py`), hqq 0.2.8 (`core/quantize.py`), aqlm 1.1.7 (`inference.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.models.quantized import quantized_as

Kind = Literal["4bit", "int8", "gptq", "awq", "hqq", "aqlm"]
"""The layer of each library; `4bit` is nf4 or fp4 of bitsandbytes, which take the same."""
BLOCK, NESTED_BLOCK = 64, 256
"""Weights that share a scale in 4 bits, and scales that share one of their own."""
CODE_BYTES, NESTED_TABLES_BYTES = 4 * 16, 4 * 256 + 4
"""Of each matrix in 4 bits: the code of its weights; with double quantization the code of the scales and their offset."""
WORD_BITS = 32
"""GPTQ and AWQ pack their weights into integers of so many."""
HQQ_PACKS = {8: (1, 1), 4: (2, 1), 3: (10, 4), 2: (4, 1), 1: (8, 1)}
"""Bits → weights that are packed together, and the bytes of the pack."""
ERROR_NOT_RUN = 0.1
"""Of the peak: bytes of these weights are exact, but the kernels were read in their source and never run here."""
GROUPS = "group_size"


@dataclass(frozen=True)
class Packing:
    """What a linear layer holds in place of its weight."""

    kind: Kind
    bits: int = 4
    group: int | None = BLOCK
    """Weights that share a scale; None: all of a row."""
    is_nested: bool = True
    """Double quantization, of 4 bits."""
    compute: str | None = None
    """The dtype that a layer in 4 bits computes in, as the checkpoint says; None: that of the run."""
    codebooks: tuple[int, int, int, int] = (1, 16, 1, 8)
    """Of AQLM: their number, bits of an index, and the outputs and inputs that one entry stands for."""
    skipped: tuple[str, ...] | None = None
    """Modules that stay whole, as the checkpoint lists them; None: it has no list."""
    chosen: tuple[str, ...] | None = None
    """Modules that alone are packed, by the end of their name; None: all linear layers."""

    @property
    def expected_error(self) -> float:
        """Beyond that of a trace."""
        return 0.0 if self.kind in ("4bit", "int8") else ERROR_NOT_RUN

    @property
    def in_blocks_alone(self) -> bool:
        """Whether what stands outside of the blocks is never packed (`convert_model` of optimum)."""
        return self.kind == "gptq"

    def layer_bytes(self, inputs: int, outputs: int, itemsize: int) -> tuple[int, int]:
        """Of a layer's packed weights, and of the scales and tables beside them; `itemsize`: of a number left whole."""
        count = inputs * outputs
        groups = -(-inputs // (self.group or inputs))
        words = -(-outputs * self.bits // WORD_BITS)
        match self.kind:
            case "4bit":
                scales = -(-count // BLOCK)
                nested = scales + 4 * -(-scales // NESTED_BLOCK) + NESTED_TABLES_BYTES
                return (count + 1) // 2, CODE_BYTES + (nested if self.is_nested else 4 * scales)
            case "int8":
                return count, 4 * outputs
            case "gptq":  # an index of the group for each input
                packed_bytes = 4 * -(-inputs * self.bits // WORD_BITS) * outputs
                return packed_bytes, groups * (4 * words + 2 * outputs) + 4 * inputs
            case "awq":
                return 4 * inputs * words, groups * (4 * words + 2 * outputs)
            case "hqq":  # scale and zero of each group
                packed, pack_bytes = HQQ_PACKS[self.bits]
                return -(-count // packed) * pack_bytes, 2 * itemsize * groups * outputs
            case "aqlm":
                number, index_bits, out_group, in_group = self.codebooks
                index_bytes = 1 if index_bits <= 8 else 2 if index_bits <= 16 else 4
                entries = number * 2**index_bits * out_group * in_group + outputs // out_group
                return count // (out_group * in_group) * number * index_bytes, entries * itemsize


OF_WORD = {"nf4": Packing("4bit"), "int8": Packing("int8", 8, None)}
"""`quantization` → what it makes of a whole model."""


def packing_of(facts: Mapping[str, Any], quantization: str | None) -> Packing | None:
    """How training holds the linear layers of the model of a `config.json`; None where they are whole in memory.

    Raises `ModelError` where the checkpoint's own figures cannot be.
    """
    if quantization is not None:
        return OF_WORD[quantization]
    quantized = quantized_as(facts)
    if quantized is None or quantized.treatment != "as_it_is":
        return None
    said = facts["quantization_config"]
    match quantized.method:
        case "bitsandbytes":
            return _of_bitsandbytes(said)
        case "gptq":
            group = _count(said, GROUPS, 128, least=-1)
            return Packing("gptq", _bits(said, (2, 3, 4, 8)), group if group > 0 else None, chosen=_chosen(said))
        case "awq":
            group = _count(said, GROUPS, 128, least=-1)
            skipped = _names(said, "modules_to_not_convert") or ()
            return Packing("awq", _bits(said, (4,)), group if group > 0 else None, skipped=skipped)
        case "hqq":
            return _of_hqq(said)
        case _:
            return _of_aqlm(said)


def _of_bitsandbytes(said: Mapping[str, Any]) -> Packing:
    skipped = _names(said, "llm_int8_skip_modules")
    if said.get("load_in_4bit") and said.get("load_in_8bit"):
        raise _unusable("load_in_8bit", "true beside `load_in_4bit`")
    if said.get("load_in_4bit"):  # as transformers asks, in this order
        compute = said.get("bnb_4bit_compute_dtype") or "float32"
        if not isinstance(compute, str) or compute.removeprefix("torch.") not in ("float32", "bfloat16", "float16"):
            raise _unusable("bnb_4bit_compute_dtype", compute)
        is_nested = bool(said.get("bnb_4bit_use_double_quant", False))
        return Packing("4bit", is_nested=is_nested, compute=compute.removeprefix("torch."), skipped=skipped)
    if said.get("load_in_8bit"):
        return Packing("int8", 8, None, skipped=skipped)
    raise _unusable("load_in_4bit", said.get("load_in_4bit"))


def _of_hqq(said: Mapping[str, Any]) -> Packing:
    quant_config = said.get("quant_config")
    weights = quant_config.get("weight_quant_params") if isinstance(quant_config, Mapping) else None
    if not isinstance(weights, Mapping):
        raise _unusable("quant_config", quant_config)
    group = None if weights.get(GROUPS) is None else _count(weights, GROUPS, 64)
    bits = _bits({"bits": weights.get("nbits", 4)}, tuple(HQQ_PACKS))
    return Packing("hqq", bits, group, skipped=_names(said, "skip_modules") or ("lm_head",))


def _of_aqlm(said: Mapping[str, Any]) -> Packing:
    names = ("num_codebooks", "nbits_per_codebook", "out_group_size", "in_group_size")
    number, bits, out_group, in_group = (
        _count(said, name, default, most=most)
        for name, default, most in zip(names, (1, 16, 1, 8), (64, 32, 4096, 4096), strict=True)
    )
    skipped = _names(said, "linear_weights_not_to_quantize") or ()
    return Packing(
        "aqlm",
        codebooks=(number, bits, out_group, in_group),
        skipped=tuple(name.removesuffix(".weight") for name in skipped),
    )


def _bits(said: Mapping[str, Any], known: tuple[int, ...]) -> int:
    bits = said.get("bits", 4)
    if type(bits) is not int or bits not in known:
        raise _unusable("bits", bits)
    return bits


def _count(said: Mapping[str, Any], name: str, default: int, *, least: int = 1, most: int = 2**20) -> int:
    number = said.get(name, default)
    if type(number) is not int or not least <= number <= most or number == 0:
        raise _unusable(name, number)
    return number


def _names(said: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    names = said.get(name)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(word, str) for word in names):
        raise _unusable(name, names)
    return tuple(names)


def _chosen(said: Mapping[str, Any]) -> tuple[str, ...] | None:
    """`modules_in_block_to_quantize`: lists of names, or lists of such lists."""
    groups = said.get("modules_in_block_to_quantize")
    if groups is None:
        return None
    lists = [group if isinstance(group, list) else [group] for group in groups] if isinstance(groups, list) else None
    names = [name for group in lists or () for name in group]
    if lists is None or not all(isinstance(name, str) for name in names):
        raise _unusable("modules_in_block_to_quantize", groups)
    return tuple(names)


def _unusable(name: str, value: Any) -> ModelError:
    return ModelError(
        N_("`{name}` in the model's quantization_config is {value}, which cannot be planned. Check config.json."),
        name=name,
        value=str(value)[:60],
    )
