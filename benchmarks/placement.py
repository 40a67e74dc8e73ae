"""Placements for unequal GPUs beside those of accelerate and an equal split, all scored by the same arithmetic.

Costs are ours: weights in bf16, fp32 adapters on all linear layers (r = 16) under autocast, gradient checkpointing, the
ordinary loss, AdamW, one row of T tokens, CUDA context and reserve. A score is the fullest device's bytes / its capacity.
Accelerate is told the same capacities, and plans on the model's weights alone, as it does; `sequential` is its walk without
balancing. What is left for host or disk cannot be trained there: such a placement is worse than any that is on GPUs alone.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

from accelerate import infer_auto_device_map
from accelerate.utils import get_balanced_memory

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.meta import build_base
from lora_backend.modeling.trace import trace_profile
from lora_backend.models.catalogue import catalogue
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.plan import Options, assignment_of, make_plan
from lora_backend.planning.targets import GIB, Target, of_words

PAIRS = (
    ("Qwen/Qwen2.5-14B", 2048, "24,12,8"),
    ("Qwen/Qwen2.5-14B", 1024, "24,8,8"),
    ("meta-llama/Llama-3.1-70B", 1024, "80,48,24"),
    ("google/gemma-2-9b", 2048, "16,16"),
    ("google/gemma-2-9b", 1024, "6,24"),
    ("meta-llama/Llama-3.1-8B", 2048, "24,12"),
    ("meta-llama/Llama-3.1-8B", 2048, "24,16"),
)
OTHERS = ("auto", "balanced_low_0", "sequential", "equal split")
"""`auto` and `balanced` are one thing in accelerate."""
MORE = 1.000001


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    config = TrainingConfig(model_name="any", precision="bf16")
    facts_of = {model.name: model.config for model in catalogue()}
    print(f"| model | T | GiB | ours | optimum | {' | '.join(OTHERS)} |\n|---|---|---|---|---|{'---|' * len(OTHERS)}")
    profiles: dict[str, Profile] = {}
    for name, tokens, words in PAIRS:
        facts, targets = facts_of[name], of_words(words)
        if name not in profiles:
            profiles[name] = trace_profile(facts, config, TraceSettings(gradient_checkpointing=True))
        workload = Workload(Size(1, tokens, config.r))
        plan = make_plan(profiles[name], workload, targets, Options(min_memory_gb=0))
        memory = Memory(profiles[name], workload)
        best = least_bottleneck(memory, targets)
        others = [_score(memory, targets, _placed_by(word, facts, memory, targets)) for word in OTHERS]
        cells = [f"{score:.3f}" + (f" and {left / GIB:.1f} GiB elsewhere" if left else "") for score, left in others]
        print(
            f"| {name} | {tokens} | {words} | **{plan.bottleneck_utilisation:.3f}** | {best:.3f} | {' | '.join(cells)} |",
            flush=True,
        )
        assert plan.bottleneck_utilisation <= best * MORE
        assert plan.bottleneck_utilisation <= min(score for score, left in others if not left) * MORE


def least_bottleneck(memory: Memory, targets: Sequence[Target]) -> float:
    """Over every contiguous split and every order of the devices, each scored as a plan is."""
    count = memory.num_units
    bytes_of = {
        (start, stop): memory.device(range(start, stop)).total
        for start in range(count)
        for stop in range(start + 1, count + 1)
    }
    best = math.inf
    for size in range(1, len(targets) + 1):
        for order in permutations(targets, size):
            for cuts in combinations(range(1, count), size - 1):
                marks = (0, *cuts, count)
                parts = zip(marks, marks[1:], order, strict=False)
                best = min(best, max(bytes_of[start, stop] / target.capacity_bytes for start, stop, target in parts))
    return best


def _score(memory: Memory, targets: Sequence[Target], placed: Sequence[int | None]) -> tuple[float, int]:
    """Utilisation of the fullest GPU, and bytes of the weights that are on none."""
    held = [[unit for unit, device in enumerate(placed) if device == index] for index in range(len(targets))]
    worst = max(memory.device(units).total / target.capacity_bytes for units, target in zip(held, targets, strict=True))
    return worst, sum(memory.weights_bytes(unit) for unit, device in enumerate(placed) if device is None)


def _placed_by(word: str, facts: dict[str, Any], memory: Memory, targets: Sequence[Target]) -> Sequence[int | None]:
    """The device of each unit; None where it is not on a GPU."""
    profile = memory.profile
    if word == "equal split":
        blocks, devices = len(profile.kind_of_block), len(targets)
        placed = [block * devices // blocks for block in range(blocks)]
        return (0, *placed) if profile.is_tied else (0, *placed, devices - 1)
    model = build_base(facts, TraceSettings())
    limits: dict[int | str, int] = {target.device: target.capacity_bytes for target in targets}
    kept_whole = model._no_split_modules
    if word != "sequential":
        limits = get_balanced_memory(
            model, limits, no_split_module_classes=kept_whole, low_zero=word == "balanced_low_0"
        )
    found = infer_auto_device_map(model, limits, no_split_module_classes=kept_whole)
    # Host and disk are one more device here, so that a map with them can be read as any other.
    elsewhere = Target("cpu", "host or disk", 0)
    found = {name: "cpu" if device == "disk" else device for name, device in found.items()}
    assigned = assignment_of(profile, found, [*targets, elsewhere])
    return [device if device < len(targets) else None for device in assigned]
