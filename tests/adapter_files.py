"""Adapters as PEFT saves them, made without torch: a few tensors of ones, and a config that names its base model."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

CONFIG = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj"],
    "base_model_name_or_path": "org/tiny",
}
KEY = "base_model.model.model.layers.0.self_attn.q_proj"


def adapter_files(rank: int = 4, **config: object) -> dict[str, bytes]:
    """Name → bytes."""
    tensors = {
        f"{KEY}.lora_A.weight": np.ones((rank, 8), "float32"),
        f"{KEY}.lora_B.weight": np.ones((8, rank), "float32"),
    }
    said = json.dumps(CONFIG | {"r": rank} | config)
    return {"adapter_config.json": said.encode(), "adapter_model.safetensors": save(tensors)}


def write_adapter(folder: Path, rank: int = 4, **config: object) -> Path:
    folder.mkdir(parents=True)
    for name, data in adapter_files(rank, **config).items():
        (folder / name).write_bytes(data)
    return folder


def zipped(files: Mapping[str, bytes], prefix: str = "") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(prefix + name, data)
    return packed.getvalue()
