"""What of a config does not go together with weights that are shared out over processes (`strategy: fsdp`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.i18n import N_, Message

QUANTIZED = N_(
    "fsdp gives every process a part of each weight, but `quantization: {quantization}` packs a weight into bytes with their own scales. Remove `quantization`, or set `strategy: ddp`."
)
PLACED = N_(
    "fsdp gives every process a part of each block, but `{key}` puts whole blocks on devices. Remove `{key}`, or set `strategy: layer_split`."
)
COMPILED = N_(
    "`torch_compile` needs the whole weights of a block, which exist under fsdp only while the block runs. Set `torch_compile: false`, or `strategy: ddp`."
)
START_FROM_WEIGHTS = N_(
    "`init_lora_weights: {start}` changes the base weights, so the base model must answer the `questions` first, but under fsdp no process has the whole model on a GPU then. Remove `questions`, or set `init_lora_weights: true`."
)


def why_not_fsdp(config: Mapping[str, Any]) -> Message | None:
    """Why a run of this config (checked by key, defaults in place) cannot share its weights out, and what to do; None where
    it can."""
    if config.get("quantization") is not None:
        return Message(QUANTIZED, {"quantization": config["quantization"]})
    for key in ("device_map", "use_balanced_device_map"):
        if config.get(key):
            return Message(PLACED, {"key": key})
    if config.get("torch_compile"):
        return Message(COMPILED)
    if config.get("questions") and config.get("init_lora_weights") in ("pissa", "olora"):
        return Message(START_FROM_WEIGHTS, {"start": config["init_lora_weights"]})
    return None
