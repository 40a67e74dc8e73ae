"""What a difference really does, found by planning and resolving with the key and without it."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.config.schema import TrainingConfig, default_config
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.planner import Planner
from lora_backend.planning.targets import of_words
from lora_backend.preflight.consequences import SWITCHED_OFF, consequences, why_without_effect

FACTS = {
    "model_type": "llama", "vocab_size": 1000, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 4, "max_position_embeddings": 4096,
}  # fmt: skip
MODULES = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")
NAMES = [f"model.layers.{block}.{module}" for block in range(4) for module in MODULES]
BASE = {"model_name": "m", "precision": "bf16"}


@pytest.fixture(scope="module")
def planner() -> Planner:
    """With real traces, each made once."""
    from lora_backend.modeling.trace import trace_profile

    known: dict[TraceSettings, Profile] = {}

    def profile_of(config: TrainingConfig) -> Profile:
        settings = TraceSettings.of(config, config.precision, tile_tokens=0)
        if settings not in known:
            known[settings] = trace_profile(FACTS, config, settings)
        return known[settings]

    return Planner(profile_of, of_words("RTX-4090"))


def found(planner: Planner, key: str, value: Any, **more: Any) -> Any:
    values = {**BASE, key: value, **more}
    return consequences(values, default_config(), [key], planner, linear_names=NAMES, num_rows=80)[key]


def test_checkpointing_saves_memory_and_takes_time(planner: Planner) -> None:
    consequence = found(planner, "gradient_checkpointing", True)
    assert consequence.bytes_on_fullest < 0
    assert consequence.step_time > 1.1
    assert consequence.trainable == 0


def test_a_rank_changes_parameters_bytes_and_every_adapted_layer(planner: Planner) -> None:
    consequence = found(planner, "r", 32)
    per_block = 4 * 2 * 256 + 3 * (256 + 512)
    assert consequence.trainable == 16 * 4 * per_block
    assert consequence.bytes_on_fullest > 0
    assert set(consequence.layers) == set(NAMES)


def test_a_pattern_says_which_layers_it_changes_and_one_that_matches_nothing_is_without_effect(
    planner: Planner,
) -> None:
    assert found(planner, "rank_pattern", {"v_proj": 4}).layers == tuple(name for name in NAMES if "v_proj" in name)
    nothing = found(planner, "rank_pattern", {"q_porj": 4})
    assert nothing.without_effect is not None
    assert nothing.layers == ()


def test_steps_follow_the_rows(planner: Planner) -> None:
    assert found(planner, "num_epochs", 5).steps == 5 * 20 - 3 * 20
    assert found(planner, "batch_size", 8).steps == 30 - 60


def test_a_key_that_another_one_switches_off_says_by_which(planner: Planner) -> None:
    consequence = found(planner, "num_epochs", 5, max_steps=10)
    assert "max_steps" in str(consequence.without_effect)
    assert "use_balanced_device_map" in str(found(planner, "force_balance", True).without_effect)


def test_a_key_of_which_nothing_can_be_said_says_nothing(planner: Planner) -> None:
    assert found(planner, "seed", 7).is_empty
    assert found(planner, "learning_rate", 2e-4).is_empty


def test_a_config_that_is_not_valid_has_no_consequences(planner: Planner) -> None:
    assert consequences({**BASE, "r": "x"}, default_config(), ["r"], planner) == {}


def test_every_switch_works_both_ways() -> None:
    on = TrainingConfig(model_name="m", use_balanced_device_map=True, eval_strategy="steps", val_size=0.1, pkg="p")
    assert [key for key in SWITCHED_OFF if why_without_effect(key, on) is not None] == []
    off = TrainingConfig(
        model_name="m", max_steps=3, lr_scheduler_type="constant", device_map="cpu", batch_size=2, target_batch_size=2
    )
    assert {key for key in SWITCHED_OFF if why_without_effect(key, off) is None} == set()
