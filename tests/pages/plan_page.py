"""The plan page with a small model, whose trace is replaced at its edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.trace_settings import TraceSettings
from tests.planning.formula_profiles import formula_profile

ROOT = Path(__file__).parents[2]

TIGHT = "6.5"

SMALL = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 8,
    "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}  # fmt: skip


def profile_of(config: TrainingConfig, method: str = "traced") -> Profile:
    """The formula's figures stand in for a trace, which would take seconds."""
    settings = TraceSettings.of(config, "bf16" if config.precision == "auto" else config.precision, tile_tokens=0)
    made = formula_profile(SMALL, config, settings)
    return made if method == "formula" else replace(made, method="traced", expected_error=0.01)


def answer(method: str = "traced") -> Callable[[Mapping[str, Any], TrainingConfig], Profile]:
    return lambda facts, config: profile_of(config, method)


def show(**query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.run()
    at.switch_page("pages/plan.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def texts(at: AppTest) -> str:
    kinds = ("markdown", "caption", "info", "warning", "error", "success")
    return "\n".join(str(element.value) for kind in kinds for element in at.get(kind))
