"""The arithmetic of one device: intervals as single devices, sums, and how bytes follow the workload."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lora_backend.planning.cost.memory import CONTEXT_BYTES, EMPTY, RESERVE, Memory, Workload
from lora_backend.planning.cost.profile import NOTHING, Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import TraceSettings
from tests.planning.formula_profiles import formula_profile
from tests.planning.profiles import CONFIG, LLAMA, WINDOWS, llama, profile_of

SIZE = Size(1, 900, 16)
ROUNDED = 8
"""Bytes by which sums of rounded parts differ from a rounded sum."""
PROFILES = {
    "llama": lambda: llama(),
    "tied": lambda: llama(is_tied=True),
    "checkpointing": lambda: llama(checkpointing=True),
    "tied, checkpointing": lambda: llama(is_tied=True, checkpointing=True),
    "windows": lambda: profile_of(WINDOWS, TraceSettings(tokens_above=512)),
    "padded": lambda: profile_of(LLAMA, TraceSettings(uneven=True)),
    "head trains": lambda: profile_of(LLAMA, TraceSettings(modules_to_save=("lm_head",)), modules_to_save=["lm_head"]),
    "formula": lambda: formula_profile(LLAMA, CONFIG, TraceSettings()),
}


@pytest.mark.parametrize(
    "workload",
    [
        Workload(SIZE),
        Workload(Size(7, 64, 300), accumulates=True),
        Workload(Size(1, 8, 4000), optim="sgd"),
        Workload(Size(2, 700, 1), on_gpu=False, accumulates=True),
    ],
    ids=["plain", "accumulates", "optimizer's step is the peak", "cpu"],
)
@pytest.mark.parametrize("name", PROFILES)
def test_every_interval_is_what_one_device_with_these_units_takes(name: str, workload: Workload) -> None:
    """At least what any part of it takes, so that a longer interval never takes less."""
    memory = Memory(PROFILES[name](), workload)
    count = memory.num_units
    single = {
        (start, stop): memory.device(range(start, stop)).total - memory.overhead_bytes
        for start in range(count)
        for stop in range(start + 1, count + 1)
    }
    for (start, stop), found in single.items():
        inside = [taken for (a, b), taken in single.items() if start <= a and b <= stop]
        assert abs(int(memory.interval_bytes[start, stop]) - max(found, *inside)) <= ROUNDED, (start, stop)


@pytest.mark.parametrize("name", PROFILES)
def test_a_breakdown_sums_to_its_total_and_holds_nothing_negative(name: str) -> None:
    memory = Memory(PROFILES[name](), Workload(SIZE))
    count = memory.num_units
    for units in (range(count), range(1, count), range(1, count - 1), range(2), [0, 2, 4]):
        parts = vars(memory.device(units))
        assert min(parts.values()) >= 0
        assert sum(parts.values()) == memory.device(units).total == memory.device(units).tensors + parts["overhead"]


def test_weights_adapter_and_optimizer_of_all_devices_are_the_models() -> None:
    profile = llama()
    memory = Memory(profile, Workload(SIZE))
    parts = [memory.device(units) for units in (range(2), range(2, 4), range(4, memory.num_units))]
    trained = profile.trainable(SIZE.rank)
    assert sum(part.adapter for part in parts) == 4 * trained
    assert sum(part.optimizer for part in parts) == pytest.approx(8 * trained, abs=3)
    assert sum(part.weights for part in parts) == sum(memory.weights_bytes(unit) for unit in range(memory.num_units))


def test_a_device_without_units_holds_nothing() -> None:
    assert Memory(llama(), Workload(SIZE)).device([]) == EMPTY
    assert EMPTY.total == 0


def test_overhead_is_context_and_a_share_of_what_comes_and_goes() -> None:
    on_gpu, on_cpu = (
        whole(llama(), Workload(SIZE, on_gpu=on_gpu, optim="adamw_torch_fused")) for on_gpu in (True, False)
    )
    moving = on_gpu.gradients + on_gpu.activations + on_gpu.logits
    assert on_gpu.overhead == CONTEXT_BYTES + round(RESERVE * moving)
    assert on_gpu.overhead - on_cpu.overhead == CONTEXT_BYTES
    assert on_gpu.tensors == on_cpu.tensors


def test_gradients_that_are_summed_are_there_all_the_time() -> None:
    profile = llama()
    once, summed = (whole(profile, Workload(SIZE, accumulates=accumulates)) for accumulates in (False, True))
    assert summed.gradients == 4 * profile.trainable(SIZE.rank)
    assert once.tensors < summed.tensors <= once.tensors + summed.gradients


def test_more_rows_tokens_or_rank_take_more_and_another_optimizer_less() -> None:
    def total(size: Size, **more: Any) -> int:
        return int(whole(llama(), Workload(size, **more)).total)

    assert total(SIZE) < total(Size(2, 900, 16))
    assert total(SIZE) < total(Size(1, 901, 16))
    assert total(SIZE) < total(Size(1, 900, 17))
    assert total(SIZE) > total(SIZE, optim="sgd")
    assert total(SIZE) == total(SIZE, optim="adamw_8bit"), "tensors that are so small keep 32 bits"
    large = Size(1, 900, 64)
    assert total(large) > total(large, optim="adamw_8bit") > total(large, optim="sgd")


@pytest.mark.parametrize(("name", "bytes_each"), [("lm_head", 2 + 2 * 4 / 256), ("embed_tokens", 8)])
def test_a_table_of_embeddings_keeps_its_states_in_32_bits(name: str, bytes_each: float) -> None:
    keys = {"modules_to_save": [name]}
    profile = profile_of(LLAMA, TraceSettings(modules_to_save=(name,)), **keys)
    plain, more = (whole(each, Workload(SIZE, optim="adamw_8bit")).optimizer for each in (llama(), profile))
    assert more - plain == bytes_each * LLAMA["vocab_size"] * LLAMA["hidden_size"]


def test_logits_are_named_where_they_are_the_peak() -> None:
    words = replace_words(LLAMA, 50_000)
    found = whole(profile_of(words, TraceSettings(gradient_checkpointing=True)), Workload(SIZE))
    assert found.logits > 0.9 * 10 * SIZE.tokens * 50_000
    assert whole(llama(), Workload(Size(1, 8, 16))).activations > 0


def test_blocks_on_another_device_pay_for_a_copy_of_their_inputs() -> None:
    profile = llama()
    without = replace(
        profile, kinds=tuple(replace(kind, side_inputs=np.zeros_like(kind.side_inputs)) for kind in profile.kinds)
    )
    same, other = (Memory(each, Workload(SIZE)).device([0, 1, 2]) for each in (profile, without))
    assert same == other, "beside the embedding they are there already"
    same, other = (Memory(each, Workload(SIZE)).device([2, 3]) for each in (profile, without))
    assert same.tensors > other.tensors


@pytest.mark.parametrize("loss_type", ["nll", "chunked_nll"])
def test_logits_and_loss_stay_on_the_device_of_the_head(loss_type: str) -> None:
    words = replace_words(LLAMA, 50_000)
    settings = TraceSettings(gradient_checkpointing=True, loss_type=loss_type, is_tiled=loss_type == "chunked_nll")
    memory = Memory(profile_of(words, settings), Workload(Size(1, 3000, 16)))
    last = memory.num_units - 1
    assert memory.device(range(last)).logits == 0
    assert memory.device([last]).logits > 2**26
    without_head = replace(memory.profile, head=replace(memory.profile.head, forward=NOTHING, backward=NOTHING))
    assert memory.device([0, 1]) == Memory(without_head, memory.workload).device([0, 1]), "the embedding pays nothing"


def whole(profile: Profile, workload: Workload) -> Any:
    memory = Memory(profile, workload)
    return memory.device(range(memory.num_units))


def replace_words(facts: dict[str, Any], words: int) -> dict[str, Any]:
    return {**facts, "vocab_size": words}
