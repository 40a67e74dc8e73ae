"""The formula: a Llama as a trace finds it."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.modeling.trace import full_trace, trace_profile
from lora_backend.planning.cost.formula import EXPECTED_ERROR
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import TraceSettings
from tests.planning.formula_profiles import formula_profile
from tests.planning.profiles import CONFIG, LLAMA, TIED, shallow


def whole(facts: dict[str, Any], settings: TraceSettings, size: Size) -> int:
    memory = Memory(formula_profile(facts, CONFIG, settings), Workload(size, on_gpu=False))
    breakdown = memory.device(range(memory.num_units))
    return breakdown.tensors - breakdown.adapter - breakdown.optimizer


@pytest.mark.parametrize(
    "settings",
    [
        TraceSettings(),
        TraceSettings(precision="fp32"),
        TraceSettings(adapter_precision="bf16", gradient_checkpointing=True),
        TraceSettings(loss_type="chunked_nll", is_tiled=True, gradient_checkpointing=True),
    ],
    ids=["autocast", "fp32", "bf16", "chunked loss"],
)
def test_of_a_llama_it_is_near_a_trace(settings: TraceSettings) -> None:
    facts, size = shallow("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 4), Size(1, 3000, 16)
    assert whole(facts, settings, size) == pytest.approx(sum(full_trace(facts, CONFIG, settings, size)), rel=0.06)


@pytest.mark.parametrize("names", [("lm_head",), ("embed_tokens", "norm"), ("o_proj", "input_layernorm")], ids="+".join)
def test_what_trains_whole_is_near_a_trace_too(names: tuple[str, ...]) -> None:
    facts, size = shallow("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 4), Size(1, 1000, 16)
    targets = ["q_proj", "down_proj"]
    settings = TraceSettings(modules_to_save=names, target_modules=tuple(targets))
    config = CONFIG.model_copy(update={"modules_to_save": list(names), "target_modules": targets})
    profile, traced = formula_profile(facts, config, settings), trace_profile(facts, config, settings)
    assert profile.trainable(16) == traced.trainable(16)
    workload = Workload(size, optim="adamw_8bit", on_gpu=False)
    found, expected = (
        memory.device(range(memory.num_units)) for memory in (Memory(profile, workload), Memory(traced, workload))
    )
    assert (found.adapter, found.optimizer) == (expected.adapter, expected.optimizer)
    assert found.tensors == pytest.approx(expected.tensors, rel=0.06)


def test_magnitudes_are_counted() -> None:
    profile = formula_profile(LLAMA, CONFIG, TraceSettings(use_dora=True))
    traced = trace_profile(LLAMA, CONFIG.model_copy(update={"use_dora": True}), TraceSettings(use_dora=True))
    assert profile.trainable(16) == traced.trainable(16)


def test_it_says_that_it_is_a_formula_and_how_far_it_may_be_off() -> None:
    profile = formula_profile(LLAMA, CONFIG, TraceSettings())
    assert (profile.method, profile.expected_error) == ("formula", EXPECTED_ERROR)


def test_fewer_targets_less_precision_and_ties_cost_less() -> None:
    full = formula_profile(LLAMA, CONFIG, TraceSettings())
    some = formula_profile(LLAMA, CONFIG, TraceSettings(target_modules=("q_proj",)))
    small = formula_profile(LLAMA, CONFIG, TraceSettings(quantization="nf4"))
    tied = formula_profile(TIED, CONFIG, TraceSettings())
    assert some.trainable(16) == 16 * 128 * LLAMA["num_hidden_layers"] < full.trainable(16)
    assert small.kinds[0].weights_bytes < full.kinds[0].weights_bytes / 3
    assert full.parameters - tied.parameters == LLAMA["vocab_size"] * LLAMA["hidden_size"]


def test_experts_weigh_all_and_are_kept_by_those_that_a_token_visits() -> None:
    one = formula_profile(LLAMA, CONFIG, TraceSettings()).kinds[0]
    many = formula_profile({**LLAMA, "num_local_experts": 8, "num_experts_per_tok": 2}, CONFIG, TraceSettings()).kinds[
        0
    ]
    kept_one, kept_many = one.forward.delta[1], many.forward.delta[1]
    assert many.parameters > 5 * one.parameters
    assert kept_many - kept_one == 8 * LLAMA["intermediate_size"]
