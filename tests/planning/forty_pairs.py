"""Forty pairs of model and GPUs, planned and placed as transformers places them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import accelerate
from accelerate.utils import get_balanced_memory
from transformers.integrations.accelerate import _get_device_map

from lora_backend.errors import DeviceError
from lora_backend.modeling.meta import build_base
from lora_backend.models.catalogue import catalogue
from lora_backend.planning.cost.memory import Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.plan import Options, Plan, assignment_of, make_plan
from lora_backend.planning.targets import Target, of_words
from tests.planning.profiles import profile_of, settings_of
from tests.planning.true_rule import Priced

QWEN_4B, LLAMA_3B, GEMMA = "Qwen/Qwen3-4B", "meta-llama/Llama-3.2-3B", "google/gemma-2-9b"

QWEN_14B, QWEN3_14B, LLAMA_70B = "Qwen/Qwen2.5-14B", "Qwen/Qwen3-14B", "meta-llama/Llama-3.1-70B"

PAIRS = [
    (QWEN_4B, 2, 2048, "6,16"),
    (GEMMA, 1, 2048, "8,24"),
    (LLAMA_3B, 2, 2048, "6,16"),
    (QWEN_14B, 1, 2048, "8,24,12"),
    (GEMMA, 1, 2048, "8,16,16"),
    (GEMMA, 1, 1024, "6,24"),
    (QWEN3_14B, 1, 2048, "8,24,16"),
    (LLAMA_70B, 1, 1024, "80,48,24"),
    (QWEN_4B, 2, 1024, "4,16"),
    (QWEN_4B, 2, 2048, "8,12"),
    (QWEN_4B, 4, 1024, "12,8"),
    (QWEN_4B, 2, 2048, "16,6"),
    (QWEN_4B, 3, 512, "6,6"),
    (QWEN_4B, 2, 2048, "6,8,8"),
    (QWEN_4B, 8, 512, "8,6,12"),
    (LLAMA_3B, 2, 1024, "4,12"),
    (LLAMA_3B, 2, 2048, "8,8"),
    (LLAMA_3B, 4, 2048, "12,24"),
    (LLAMA_3B, 2, 2048, "24,6"),
    (LLAMA_3B, 2, 512, "5,4"),
    (LLAMA_3B, 3, 2048, "6,6,16"),
    (LLAMA_3B, 2, 4096, "8,24,12"),
    (GEMMA, 1, 1024, "24,6"),
    (GEMMA, 1, 2048, "16,16"),
    (GEMMA, 1, 2048, "12,16"),
    (GEMMA, 1, 3072, "10,24"),
    (GEMMA, 1, 512, "8,8,12"),
    (GEMMA, 1, 2048, "24,8,8"),
    (GEMMA, 1, 1024, "3,24"),
    (QWEN_14B, 1, 2048, "24,12,8"),
    (QWEN_14B, 1, 1024, "24,8,8"),
    (QWEN_14B, 1, 4096, "12,40"),
    (QWEN_14B, 1, 1024, "16,24"),
    (QWEN_14B, 1, 2048, "12,12,24"),
    (QWEN_14B, 1, 8192, "16,24,24"),
    (QWEN3_14B, 1, 4096, "8,40"),
    (QWEN3_14B, 1, 1024, "24,16"),
    (QWEN3_14B, 1, 2048, "12,24,12"),
    (QWEN3_14B, 1, 3000, "16,16,16"),
    (LLAMA_70B, 1, 2048, "48,80,80"),
]

WORDS = ("auto", "balanced", "balanced_low_0", "sequential")

Pair = tuple[str, int, int, str]


@cache
def facts_of(name: str) -> dict[str, Any]:
    return next(model.config for model in catalogue() if model.name == name)


def profile_for(name: str, rows: int, tokens: int) -> Profile:
    facts = facts_of(name)
    return profile_of(facts, settings_of(facts, tokens, gradient_checkpointing=True, uneven=rows > 1))


@cache
def model_of(name: str) -> Any:
    return build_base(facts_of(name), TraceSettings())


def planned(pair: Pair) -> tuple[Plan, Priced]:
    name, rows, tokens, words = pair
    profile, size = profile_for(name, rows, tokens), Size(rows, tokens, 16)
    return make_plan(profile, Workload(size), of_words(words), Options(min_memory_gb=0)), Priced(profile, size)


def maps_of(name: str, targets: Sequence[Target], profile: Profile) -> list[tuple[int, ...] | None]:
    """Every map of accelerate and of transformers; None where a part of the model is on no GPU, or a block on two."""
    model = model_of(name)
    limits: dict[int | str, int] = {int(target.device): target.capacity_bytes for target in targets}
    found: list[Any] = [_get_device_map(model, word, dict(limits), None) for word in WORDS]
    for word in WORDS:
        room = dict(limits)
        if word != "sequential":
            room = get_balanced_memory(
                model, room, no_split_module_classes=model._no_split_modules, low_zero=word == "balanced_low_0"
            )
        found.append(accelerate.infer_auto_device_map(model, room, no_split_module_classes=model._no_split_modules))
    distinct = {tuple(sorted(map(str, each.items()))): each for each in found}
    return [assigned(each, targets, profile) for each in distinct.values()]


def assigned(device_map: dict[str, Any], targets: Sequence[Target], profile: Profile) -> tuple[int, ...] | None:
    try:
        return assignment_of(profile, device_map, targets)
    except DeviceError:
        return None
