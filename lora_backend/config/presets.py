"""Presets: what to start from for a purpose, as values over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_backend.config.schema import default_config
from lora_backend.i18n import N_


@dataclass(frozen=True)
class Preset:
    """A start. `title` and `purpose` are English templates; neither model nor data set is part of it."""

    id: str
    title: str
    purpose: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def config(self, model_name: str, dataset: str | None = None) -> dict[str, Any]:
        """What a config for this model and data set holds: the preset's values, without the defaults."""
        data = {} if dataset is None else {"dataset": dataset}
        return {"model_name": model_name, **data, **self.values}


_CHECKED = {"check_r_consistency": True, "strict_r_check": True, "seed": 42}

PRESETS: dict[str, Preset] = {
    preset.id: preset
    for preset in (
        Preset(
            "small_gpu",
            N_("One small GPU (8 to 12 GB)"),
            N_("Models of 1 to 3 billion parameters on a GPU of 8 to 12 GB: short rows, one at a time, with checkpointing and a loss without whole logits."),
            {
                "max_length": 512, "r": 8, "alpha": 16, "batch_size": 1, "target_batch_size": 16,
                "gradient_checkpointing": True,
                "lr_scheduler_type": "cosine", "warmup_ratio": 0.03, "learning_rate": 2e-4, "save_total_limit": 2, **_CHECKED,
            },
        ),
        Preset(
            "four_bit_24gb",
            N_("QLoRA on one 24 GB GPU"),
            N_("Models of 7 to 14 billion parameters in 4 bits on one GPU of 24 GB (QLoRA): every linear layer, gradient checkpointing, gradient accumulation."),
            {
                "quantization": "nf4", "max_length": 1024, "r": 16, "alpha": 32, "lora_dropout": 0.05, "batch_size": 1,
                "target_batch_size": 16, "gradient_checkpointing": True,
                "lr_scheduler_type": "cosine", "warmup_ratio": 0.03, "learning_rate": 2e-4, **_CHECKED,
            },
        ),
        Preset(
            "unequal_gpus",
            N_("Several unequal GPUs"),
            N_("A model too large for one GPU, spread over several that may differ: each gets as many blocks as its memory allows."),
            {
                "use_balanced_device_map": True, "min_memory_gb": 2.0, "batch_size": 2, "target_batch_size": 16,
                "gradient_checkpointing": True, "lr_scheduler_type": "cosine",
                "warmup_ratio": 0.03, **_CHECKED,
            },
        ),
        Preset(
            "quick_check",
            N_("Quick check"),
            N_("Two optimizer steps on short rows: check that model, data and config work together before you spend an hour."),
            {
                "max_length": 256, "r": 4, "alpha": 8, "batch_size": 1, "max_steps": 2, "logging_steps": 1,
                "save_steps": 2, "save_total_limit": 2, **_CHECKED,
            },
        ),
        Preset(
            "demo",
            N_("The demo"),
            N_("The settings of the demo: a small model on the CPU in a few minutes. With the demo's own model and data it reaches the demo's results."),
            {
                "max_length": 256, "r": 16, "alpha": 32, "target_modules": "all-linear", "num_epochs": 2, "learning_rate": 2e-3,
                "lr_scheduler_type": "cosine", "warmup_ratio": 0.05, "batch_size": 4, "precision": "auto", "logging_steps": 1,
                **_CHECKED,
            },
        ),
        Preset(
            "many_adapters",
            N_("Batch of adapters"),
            N_("One adapter per package, version and knowledge type, all from one config: a tenth of the rows is held out for evaluation, and the result is published by name."),
            {
                "pkg": "my-package", "version": "1.0", "knowledge_type": "api", "val_size": 0.1, "eval_strategy": "epoch",
                **_CHECKED,
            },
        ),
    )
}  # fmt: skip
"""By id, in the order in which they are offered."""


def preset_base(preset_id: str) -> dict[str, Any]:
    """The defaults with a preset's values over them, as the base of a diff. `KeyError` for an id that is none."""
    return default_config() | dict(PRESETS[preset_id].values)
