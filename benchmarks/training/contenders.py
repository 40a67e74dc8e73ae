"""Who is compared: Flightdeck by its own keys, TRL's SFTTrainer by its own fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.training.row_sets import MAX_LENGTH, SEED

BATCH = 8
SHARED: dict[str, Any] = {
    "r": 16, "alpha": 32, "target_modules": "all-linear", "learning_rate": 2e-3, "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.05, "batch_size": BATCH, "num_epochs": 1, "max_length": MAX_LENGTH, "logging_steps": 1, "seed": SEED,
}  # fmt: skip
"""Keys of every config of ours, the demo's own; no gradient checkpointing. All others have their defaults."""
FP32_FIELDS: dict[str, Any] = {
    "per_device_train_batch_size": BATCH, "max_length": MAX_LENGTH, "learning_rate": 2e-3, "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05, "num_train_epochs": 1, "logging_steps": 1, "bf16": False, "gradient_checkpointing": False,
    "train_sampling_strategy": "sequential", "seed": SEED,
}  # fmt: skip
"""Of TRL in fp32: the same settings and the same order, for its rows are given to it in ours."""
QUIET: dict[str, Any] = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True}
"""Of every TRL: what it would write beside its training."""


@dataclass(frozen=True)
class Contender:
    """One way to train. `settings`: keys of a config, or fields of TRL's SFTConfig."""

    name: str
    by: Literal["Flightdeck", "TRL"]
    settings: dict[str, Any] = field(default_factory=dict)
    base: Literal["fp32", "bf16"] = "fp32"
    """The number format in which TRL is given its base model; ours follows from `precision`."""
    in_our_order: bool = True


PLAIN = {"precision": "fp32", "batching": "padded", "fused_lora": False, "loss_type": "nll", "optim": "adamw_torch"}
AUTO = Contender("Flightdeck as it comes", "Flightdeck")
FP32 = Contender("Flightdeck in fp32", "Flightdeck", {"precision": "fp32"})
PADDED = Contender("Flightdeck in fp32, padded", "Flightdeck", {"precision": "fp32", "batching": "padded"})
PLAINEST = Contender("Flightdeck, all of it off", "Flightdeck", PLAIN)
COMPILED = Contender("Flightdeck, compiled", "Flightdeck", {"torch_compile": True})
TRL_FP32 = Contender("TRL in fp32", "TRL", FP32_FIELDS)
TRL_DEFAULTS = Contender("TRL with its own defaults", "TRL", {"num_train_epochs": 1}, in_our_order=False)
BEST_OF_TRL = "TRL at its best"
OURS = {"auto": AUTO, "fp32": FP32, "padded": PADDED, "plain": PLAINEST, "compiled": COMPILED}

BATCHINGS: dict[str, dict[str, Any]] = {
    "padded": {},
    "group_by_length": {"train_sampling_strategy": "group_by_length"},
    "padding_free": {"padding_free": True, "max_length": None},
    "packing, bfd, lines of 512": {"packing": True, "max_length": 512, "per_device_train_batch_size": 1},
    "packing, bfd, lines of 1,024": {"packing": True, "max_length": 1024, "per_device_train_batch_size": 1},
}
"""What TRL has against padding. Lines are one a step, which is about as many tokens as eight rows have."""
PRECISIONS: dict[str, tuple[dict[str, Any], Literal["fp32", "bf16"]]] = {
    "bf16": ({"bf16": True}, "fp32"),
    "bf16, base model in bf16": ({"bf16": True}, "bf16"),
}


def trl_batchings() -> list[Contender]:
    """TRL in fp32, in each of its ways to batch."""
    return [Contender(f"TRL, {name}", "TRL", FP32_FIELDS | fields) for name, fields in BATCHINGS.items()]


def trl_precisions(batching: Contender) -> list[Contender]:
    """The same in each number format that is left."""
    return [
        Contender(f"{batching.name}, {name}", "TRL", batching.settings | fields, base)
        for name, (fields, base) in PRECISIONS.items()
    ]


def trl_compiled(best: Contender) -> Contender:
    return Contender(f"{best.name}, torch_compile", "TRL", best.settings | {"torch_compile": True}, best.base)


def demo_model() -> str:
    """The demo's model, prepared."""
    from lora_backend.demo.model import prepare_demo_model
    from lora_backend.installation import this_installation

    return str(prepare_demo_model(this_installation().cache, lambda *_: None))


def config_of(contender: Contender) -> Any:
    from lora_backend.config.schema import TrainingConfig

    values = {"model_name": demo_model(), "dataset": str(Path("not read"))}
    return TrainingConfig.model_validate(values | SHARED | contender.settings)
