"""The rank check: folders of the size of a 405B model's adapter and beyond, and the values of the demo's adapter.

In seconds of this machine, beside the time that safetensors itself takes to open the same file.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.noise import median_and_spread
from lora_backend.modeling.health import adapter_health
from lora_backend.verification.rank_report import check_adapter_folder

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        large = _adapter(Path(folder) / "large", 126)
        _line("folder check, 126 blocks × 7 targets (882 layers)", lambda: check_adapter_folder(large, None))
        _line("  safetensors opens the same file and reads every shape", lambda: _open(large))
        config = _beside(large, 126)
        _line("  the same beside its base model's headers", lambda: check_adapter_folder(large, config))
        huge = _adapter(Path(folder) / "huge", 7143)
        _line("folder check, 100,002 tensors", lambda: check_adapter_folder(huge, None), runs=3)
        config_of_huge = _beside(huge, 7143)
        _line("  the same beside its base model's headers", lambda: check_adapter_folder(huge, config_of_huge), runs=3)
        health = _adapter(Path(folder) / "demo", 30, rank=16, width=576)
        _line(
            "values of an adapter of the demo's shape (210 layers, r 16), torch loaded", lambda: adapter_health(health)
        )


def _adapter(folder: Path, blocks: int, rank: int = 2, width: int = 2) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 32, "target_modules": list(MODULES)})
    )
    tensors = {}
    for block in range(blocks):
        for module in MODULES:
            name = f"base_model.model.model.layers.{block}.self_attn.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, width)
            tensors[f"{name}.lora_B.weight"] = torch.randn(width, rank)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def _beside(adapter: Path, blocks: int, width: int = 2) -> dict[str, Any]:
    """A base model that the adapter fits, and the config that names it."""
    folder = adapter.with_name(f"{adapter.name}-base")
    folder.mkdir()
    names = (f"model.layers.{block}.self_attn.{module}.weight" for block in range(blocks) for module in MODULES)
    save_file({name: torch.zeros(width, width) for name in names}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": blocks}))
    own = json.loads((adapter / "adapter_config.json").read_text())
    return {**own, "model_name": str(folder)}


def _open(folder: Path) -> None:
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            file.get_slice(name).get_shape()


def _line(title: str, work: Callable[[], object], runs: int = 7) -> None:
    work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    print(f"{title}: {median_and_spread([t * 1000 for t in times], 'ms')}", flush=True)
