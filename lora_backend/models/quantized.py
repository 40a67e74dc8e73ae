"""Checkpoints that are published in few bits: by which method, and what training makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message

Treatment = Literal["as_it_is", "expanded", "untrainable"]
"""`as_it_is`: trained on the packed weights, through PEFT's own layer for the method. `expanded`: its weights are
unpacked at loading, for the kernels that compute with them have no backward. `untrainable`: neither exists."""

AS_IT_IS = ("bitsandbytes", "gptq", "awq", "hqq", "aqlm")
EXPANDED = ("fp8", "mxfp8", "mxfp4", "compressed-tensors")


@dataclass(frozen=True)
class Quantized:
    """How a checkpoint is quantized."""

    method: str
    """transformers' word: `gptq`, `fp8`, `mxfp4`, …"""

    @property
    def treatment(self) -> Treatment:
        return "as_it_is" if self.method in AS_IT_IS else "expanded" if self.method in EXPANDED else "untrainable"


def quantized_as(config: Mapping[str, Any]) -> Quantized | None:
    """How the checkpoint of a `config.json` is quantized; None where it is whole."""
    said = config.get("quantization_config")
    if not said:
        return None
    if not isinstance(said, Mapping):
        return Quantized("?")
    method = said.get("quant_method")
    if said.get("load_in_4bit") or said.get("load_in_8bit"):  # older files of bitsandbytes name no method
        method = "bitsandbytes"
    return Quantized(method if isinstance(method, str) and method else "?")


def why_not_trained(quantized: Quantized) -> Message | None:
    """Why a checkpoint cannot be trained; None where it can."""
    if quantized.treatment != "untrainable":
        return None
    template = N_("The model's weights are quantized ({method}), and nothing trains on weights of that kind.")
    return Message(template, {"method": quantized.method})


def why_not_again(quantized: Quantized) -> Message:
    """Why such a checkpoint takes no `quantization`."""
    return Message(N_("The model's weights are quantized already ({method})."), {"method": quantized.method})


def why_not_loaded(quantized: Quantized, missing: tuple[str, ...]) -> Message | None:
    """Why a checkpoint cannot be loaded here; None where nothing is `missing`."""
    if not missing:
        return None
    template = N_(
        "The model's weights are quantized ({method}); loading them needs packages that are not installed here: {packages}."
    )
    return Message(template, {"method": quantized.method, "packages": ", ".join(missing)})


def how_expanded(quantized: Quantized) -> Message | None:
    """What training makes of a checkpoint that is unpacked at loading; None for any other."""
    if quantized.treatment != "expanded":
        return None
    template = N_(
        "The model's weights are quantized ({method}). They are unpacked for training, and take as much memory as full weights."
    )
    return Message(template, {"method": quantized.method})


WHOLE_WEIGHTS = N_("Name the folder with the full weights.")
NOT_AGAIN = N_("Remove `quantization`, or name the folder with the full weights.")


def refuse_quantized(config: Mapping[str, Any], quantization: str | None) -> None:
    """Raise `ModelError` where the checkpoint of a `config.json` cannot be trained, or not with `quantization`."""
    quantized = quantized_as(config)
    if quantized is None:
        return
    why = why_not_trained(quantized)
    if why is not None:
        raise ModelError("{why} {remedy}", why=why, remedy=Message(WHOLE_WEIGHTS))
    if quantization is not None:
        raise ModelError("{why} {remedy}", why=why_not_again(quantized), remedy=Message(NOT_AGAIN))
