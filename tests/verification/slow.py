"""Adapters whose expressions would take for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.hostile import NAMES

SLOW = r"([\w.]+)+!"

PATTERNS = [{"rank_pattern": {SLOW: 8}}, {"alpha_pattern": {SLOW: 8}}]

OURS: list[dict[str, Any]] = [*PATTERNS, {"target_modules": SLOW}, {"modules_to_save": [SLOW]}]

PEFTS: list[dict[str, Any]] = [
    *OURS, {"exclude_modules": SLOW}, {"layers_to_transform": [0], "layers_pattern": SLOW},
    {"target_modules": SLOW, "target_parameters": ["gate_up_proj"]},
]  # fmt: skip


def adapter(folder: Path, **config: Any) -> Path:
    """An adapter by hand, with the names of a real one."""
    folder.mkdir(exist_ok=True)
    own = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj", "gate_proj", "down_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(own | config))
    half = np.zeros((4, 4), np.float32)
    tensors = {f"base_model.model.{name}.lora_{side}.weight": half for name in NAMES for side in "AB"}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
