"""Every key that is passed on takes effect: in what is learned, or where PEFT reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from lora_backend.config.options import Scheduler
from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.load import load_model
from lora_backend.training.assembly import warmup_steps
from lora_backend.training.batches import accumulation_steps
from tests.run_files import points_of
from tests.training.helpers import adapter_bytes, run

Make = Callable[..., dict[str, Any]]
OTHER: dict[str, Any] = {
    "max_steps": 5, "learning_rate": 0.003, "lr_scheduler_type": "constant", "warmup_ratio": 0.6, "weight_decay": 0.2,
    "optim": "adafactor", "loraplus_lr_ratio": 4.0, "neftune_noise_alpha": 15.0, "label_smoothing_factor": 0.3, "max_grad_norm": 1e-3, "target_batch_size": 4, "seed": 99, "lora_dropout": 0.3,
}  # fmt: skip
"""Another value than the plain run's; what is saved, logged and evaluated when has its tests beside the run's."""
TO_LORA: dict[str, tuple[Any, str, Any]] = {
    "r": (3, "r", 3),
    "alpha": (9, "lora_alpha", 9),
    "lora_dropout": (0.25, "lora_dropout", 0.25),
    "rank_pattern": ({"q_proj": 2}, "rank_pattern", {"q_proj": 2}),
    "alpha_pattern": ({"q_proj": 2}, "alpha_pattern", {"q_proj": 2}),
    "modules_to_save": (["lm_head"], "modules_to_save", ["lm_head"]),
    "bias": ("lora_only", "bias", "lora_only"),
    "use_rslora": (True, "use_rslora", True),
    "use_dora": (True, "use_dora", True),
    "init_lora_weights": ("gaussian", "init_lora_weights", "gaussian"),
    "target_modules": (["q_proj"], "target_modules", {"q_proj"}),
    "target_layers": ([1], "layers_to_transform", [1]),
}


@pytest.fixture(scope="module")
def learned() -> dict[str, bytes]:
    return {}


@pytest.mark.parametrize("key", OTHER)
def test_a_key_changes_what_is_learned(key: str, config: Make, workspace: Path, learned: dict[str, bytes]) -> None:
    plain = {"num_epochs": ..., "max_steps": 4, "target_batch_size": 8, "warmup_ratio": 0.3}
    if not learned:
        learned["plain"] = adapter_bytes(run(workspace, config(**plain)))
    assert adapter_bytes(run(workspace, config(**{**plain, key: OTHER[key]}))) != learned["plain"]


@pytest.mark.parametrize(("target", "steps"), [(None, 1), (4, 1), (8, 2), (32, 8)])
def test_the_target_batch_size_gives_the_accumulation(target: int | None, steps: int, config: Make) -> None:
    assert accumulation_steps(TrainingConfig(**config(target_batch_size=target)), 4) == steps


@pytest.mark.parametrize("key", TO_LORA)
def test_a_key_arrives_in_the_lora_config(key: str, config: Make) -> None:
    value, name, wanted = TO_LORA[key]
    asked = TrainingConfig(**config(**{key: value}))
    model = attach_adapter(load_model(asked), asked)
    assert getattr(model.peft_config["default"], name) == wanted


def test_the_attention_kernel_arrives(config: Make) -> None:
    assert load_model(TrainingConfig(**config(attn_implementation="eager"))).config._attn_implementation == "eager"


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "up_proj"], r"model\.layers\.\d+\.self_attn\.(q|v)_proj"])
@pytest.mark.parametrize("layers", [None, [1]])
def test_targets_and_layers_give_exactly_these_modules(targets: Any, layers: list[int] | None, config: Make) -> None:
    from lora_backend.modeling.lora_layers import lora_layers_of_model

    asked = TrainingConfig(**config(target_modules=targets, target_layers=layers))
    found = {(layer.block, layer.module) for layer in lora_layers_of_model(attach_adapter(load_model(asked), asked))}
    modules = {
        "all-linear": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        "['q_proj', 'up_proj']": {"q_proj", "up_proj"},
    }.get(str(targets), {"q_proj", "v_proj"})
    assert found == {(block, module) for block in layers or [0, 1] for module in modules}


@pytest.mark.parametrize(
    ("ratio", "steps", "warmup"), [(0.0, 10, 0), (0.03, 1, 0), (0.03, 100, 3), (0.9, 2, 1), (0.99, 10, 9), (0.5, 10, 5)]
)
def test_the_rate_is_where_it_was_set_before_training_ends(ratio: float, steps: int, warmup: int, config: Make) -> None:
    assert warmup_steps(TrainingConfig(**config(warmup_ratio=ratio)), steps) == warmup


@pytest.mark.parametrize("word", get_args(Scheduler))
def test_a_schedule_trains_however_short_it_is_and_long_its_warm_up(word: str, config: Make, workspace: Path) -> None:
    folder = run(workspace, config(lr_scheduler_type=word, warmup_ratio=0.9, max_steps=2, num_epochs=...))
    assert max(row["learning_rate"] for row in points_of(folder) if "learning_rate" in row) > 0
