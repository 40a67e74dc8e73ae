"""A Llama by the formula, planned in milliseconds: what most tests of plans ask about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.cost.memory import Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.targets import GIB, Target
from tests.planning.formula_profiles import formula_profile

FACTS: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 12,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
}  # fmt: skip

CONFIG = TrainingConfig(model_name="any", precision="bf16", batch_size=1, max_length=1024)

WORKLOAD = Workload(Size(1, 1024, 16))

CPU = Target("cpu", "CPU", 64 * GIB)


def source(facts: dict[str, Any]) -> Callable[[TrainingConfig], Profile]:
    def profile_of(config: TrainingConfig) -> Profile:
        return formula_profile(facts, config, TraceSettings.of(config, config.precision, tile_tokens=0))

    return profile_of


PROFILE = source(FACTS)(CONFIG)
