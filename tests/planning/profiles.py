"""Profiles that several tests share: families of the catalogue with few blocks, and a Llama that is small all over."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.meta import model_config
from lora_backend.modeling.trace import trace_profile
from lora_backend.modeling.trace_sizes import attention_windows, tile_tokens
from lora_backend.models.catalogue import catalogue
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.trace_settings import TraceSettings

CONFIG = TrainingConfig(model_name="any", precision="bf16")
LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 5,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip
TIED = {**LLAMA, "model_type": "qwen2", "tie_word_embeddings": True}
WINDOWS = {**LLAMA, "model_type": "gemma2", "head_dim": 16, "sliding_window": 512, "num_hidden_layers": 6}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def shallow(name: str, blocks: int = 5) -> dict[str, Any]:
    """`config.json` of a catalogue's model with fewer blocks, its widths as published."""
    facts = next(model.config for model in catalogue() if model.name == name)
    depth = next((facts[key] for key in DEPTHS if key in facts), None)
    for key, value in list(facts.items()):
        if isinstance(value, list) and len(value) == depth:
            facts[key] = value[:blocks]
    if "attention_types" in facts:  # GPT-Neo's way to say the same
        facts["attention_types"] = [[[*(["global", "local"] * blocks)[:blocks]], 1]]
    return facts | {next((key for key in DEPTHS if key in facts), "n_layer"): blocks}


def settings_of(facts: dict[str, Any], tokens: int, **chosen: Any) -> TraceSettings:
    """The trace settings of rows with so many tokens."""
    architecture = model_config(facts)
    return TraceSettings(
        is_tiled=chosen.get("loss_type") == "chunked_nll" and tokens > tile_tokens(architecture),
        tokens_above=max((window for window in attention_windows(architecture) if tokens >= window), default=0),
        **chosen,
    )


def profile_of(facts: dict[str, Any], settings: TraceSettings, **keys: Any) -> Profile:
    """Traced once, by whichever worker comes first; `keys` of the config are those that shape the adapter."""
    return _profile_of(json.dumps(facts, sort_keys=True), settings, json.dumps(keys, sort_keys=True))


@lru_cache
def _profile_of(facts: str, settings: TraceSettings, keys: str) -> Profile:
    name = hashlib.sha256(f"{facts}{settings}{keys}".encode()).hexdigest()
    path = Path(os.environ["FLIGHTDECK_HOME"]) / "traced_for_tests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            traced = trace_profile(json.loads(facts), CONFIG.model_copy(update=json.loads(keys)), settings)
            path.write_bytes(pickle.dumps(traced))
        return pickle.loads(path.read_bytes())  # type: ignore[no-any-return]


def llama(*, is_tied: bool = False, checkpointing: bool = False) -> Profile:
    """The small Llama's (or a tied relative's) profile."""
    return profile_of(TIED if is_tied else LLAMA, TraceSettings(gradient_checkpointing=checkpointing))
