"""Predicted memory against a full trace: every family of the catalogue at its published size and depth, in four settings.

Predicted: a profile from three traces of one block of each kind, composed. Held against: one trace of the whole model, all
its blocks in it. Both without the adapter and the optimizer's states, which are counted, not predicted. Beside it what the
formula says of the same, and how long profiles and arithmetic take.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.noise import median_and_spread
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError
from lora_backend.modeling.by_formula import profile_by_formula
from lora_backend.modeling.meta import model_config
from lora_backend.modeling.profiling import profile_for
from lora_backend.modeling.trace import full_trace, trace_profile
from lora_backend.modeling.trace_sizes import attention_windows, max_positions, tile_tokens
from lora_backend.models.catalogue import CatalogueModel, catalogue
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.profile_store import ProfileStore
from lora_backend.planning.split.partition import Costs, Device, partition

CONFIG = TrainingConfig(model_name="any", precision="bf16")
TOKENS, RANK = 2048, 16
"""One row of so many tokens: more than any size that is traced for a profile."""
SETTINGS: dict[str, dict[str, Any]] = {
    "bf16 adapters, checkpointing": {"adapter_precision": "bf16", "gradient_checkpointing": True},
    "fp32 adapters, autocast": {},
    "nf4, checkpointing": {"quantization": "nf4", "gradient_checkpointing": True},
    "chunked loss, checkpointing": {"loss_type": "chunked_nll", "gradient_checkpointing": True},
}


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    _times()
    traced: list[float] = []
    formula: list[float] = []
    print(
        "family, model | setting | full trace, GiB | profile − trace | its tensors that come and go | formula − trace"
    )
    for model in smallest_of_each_family():
        for name, chosen in SETTINGS.items():
            _line(model, name, chosen, traced, formula)
    _summary("profiles", traced)
    _summary("formula", formula)


def smallest_of_each_family() -> list[CatalogueModel]:
    """One model of each type in the catalogue, by name of the type."""
    found: dict[str, CatalogueModel] = {}
    for model in sorted(catalogue(), key=lambda model: model.parameters):
        found.setdefault(model.model_type, model)
    return [found[name] for name in sorted(found)]


def settings_for(facts: dict[str, Any], tokens: int, **chosen: Any) -> TraceSettings:
    """Trace settings for one row of `tokens` tokens."""
    architecture = model_config(facts)
    return TraceSettings(
        is_tiled=chosen.get("loss_type") == "chunked_nll" and tokens > tile_tokens(architecture),
        tokens_above=max((window for window in attention_windows(architecture) if tokens >= window), default=0),
        **chosen,
    )


def predicted_bytes(profile: Profile, size: Size) -> tuple[int, int]:
    """Bytes of the weights, and those that come and go at the peak, with the whole model on one device."""
    memory = Memory(profile, Workload(size, on_gpu=False))
    breakdown = memory.device(range(memory.num_units))
    return breakdown.weights, breakdown.gradients + breakdown.activations + breakdown.logits


def _line(model: CatalogueModel, name: str, chosen: dict[str, Any], traced: list[float], formula: list[float]) -> None:
    facts = model.config
    title = f"{model.model_type}, {model.name.partition('/')[2]} | {name}"
    size = Size(1, min(TOKENS, max_positions(model_config(facts)) or TOKENS), RANK)
    settings = settings_for(facts, size.tokens, **chosen)
    try:
        weights_bytes, peak_bytes = full_trace(facts, CONFIG, settings, size)
    except Exception as error:  # whatever a family's code does with tensors that have no values
        print(f"{title} | cannot be traced: {type(error).__name__} {str(error)[:120]!r}", flush=True)
        return
    whole = weights_bytes + peak_bytes

    def off(make: Callable[[], Profile], errors: list[float]) -> tuple[str, str]:
        try:
            weights, moving = predicted_bytes(make(), size)
        except FlightdeckError as error:
            return f"none: {str(error)[:80]}", ""
        errors.append((weights + moving) / whole - 1)
        return f"{errors[-1]:+.4%}", f"{moving / peak_bytes - 1:+.3%}"

    profile, moving = off(lambda: trace_profile(facts, CONFIG, settings), traced)
    by_formula, _ = off(lambda: profile_by_formula(facts, CONFIG, settings), formula)
    print(f"{title} | {whole / 2**30:.2f} | {profile} | {moving} | {by_formula}", flush=True)


def _summary(title: str, errors: list[float]) -> None:
    sizes = sorted(abs(error) for error in errors)
    if not sizes:
        return
    high = sizes[min(round(0.95 * len(sizes)), len(sizes) - 1)]
    print(
        f"{title}: {len(sizes)} predictions, median error {statistics.median(sizes):.4%}, 95 % below {high:.4%}, worst {sizes[-1]:.4%}, {sum(error == 0 for error in sizes)} equal to the byte",
        flush=True,
    )


def _times() -> None:
    models = {model.name: model for model in catalogue()}
    trace_profile(models["HuggingFaceTB/SmolLM2-135M"].config, CONFIG, TraceSettings())
    for name in ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-405B"):
        facts = models[name].config
        config = CONFIG.model_copy(update={"batch_size": 1, "gradient_checkpointing": True})
        times = _seconds(lambda: profile_for(facts, config), 3)  # noqa: B023  # is called here
        print(f"first profile of {name}, warm process: {median_and_spread(times, 's')}", flush=True)
    profile = profile_for(facts, config)
    with tempfile.TemporaryDirectory() as folder:
        store = ProfileStore(Path(folder))
        store.save(facts, profile)
        times = _seconds(lambda: store.find(facts, config), 21)
        print(f"the same from the cache: {median_and_spread([1000 * one for one in times], 'ms')}")
    sizes = iter(range(1024, 4096))

    def memory() -> Memory:
        return Memory(profile, Workload(Size(1, next(sizes), 16)))

    units = range(memory().num_units)
    devices = [Device(80 * 2**30, 500 * 2**20) for _ in range(16)]

    def split() -> object:
        made = memory()
        return partition(Costs(made.interval_bytes, made.is_block), devices)

    rows: dict[str, Callable[[], object]] = {
        "bytes of one device": lambda: memory().device(units),
        "bytes of every interval of units": lambda: memory().interval_bytes,
        "both, and the best split over 16 GPUs": lambda: partition(
            Costs((m := memory()).interval_bytes, m.is_block), devices
        ),
    }
    for title, run in rows.items():
        times = [1000 * one for one in _seconds(run, 21)]
        print(f"one change of a slider, 126 blocks, {title}: {median_and_spread(times, 'ms')}", flush=True)


def _seconds(run: Callable[[], object], count: int) -> list[float]:
    marks = [time.perf_counter()]
    for _ in range(count):
        run()
        marks.append(time.perf_counter())
    return [after - before for before, after in pairwise(marks)]
