"""State-space and linear-attention models: scans over chunks and over single tokens are traced at a few short sizes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from transformers import CONFIG_MAPPING

from lora_backend.errors import UntraceableError
from lora_backend.modeling import trace
from lora_backend.modeling.blocks import find_blocks
from lora_backend.modeling.meta import build_base
from lora_backend.modeling.step_loops import Events, fold
from lora_backend.modeling.trace import full_trace, trace_profile
from lora_backend.modeling.trace_sizes import scan_chunk, short_sizes, trace_sizes
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.scaling import EXPONENTS, Size, monomials, padded_to
from lora_backend.planning.cost.trace_settings import TraceSettings
from tests.planning.profiles import CONFIG

SMALL: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 4}
HEADS: dict[str, Any] = {"intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1}
LINEAR: dict[str, Any] = {
    "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"] * 2,
}  # fmt: skip
FACTS: dict[str, dict[str, Any]] = {
    "mamba": {**SMALL, "state_size": 4},
    "mamba2": {**SMALL, "state_size": 4, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 16},
    "bamba": {**SMALL, **HEADS, "attn_layer_indices": [2], "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 4, "mamba_n_groups": 1, "mamba_chunk_size": 16},
    "qwen3_5_text": {**SMALL, **HEADS, **LINEAR},
    "kimi_linear": {
        **SMALL, **HEADS, "num_hidden_layers": 2, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_token": 2,
        "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "linear_num_heads": 2,
        "linear_head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    },
    "xlstm": {**SMALL, "hidden_size": 128, "num_hidden_layers": 2, "num_heads": 2},
    "recurrent_gemma": {**SMALL, "intermediate_size": 48, "num_attention_heads": 2, "lru_width": 32},
}  # fmt: skip


def facts_of(family: str) -> dict[str, Any]:
    """As transformers writes it to `config.json`."""
    facts: dict[str, Any] = json.loads(CONFIG_MAPPING[family](**FACTS[family]).to_json_string())
    return facts


def predicted(facts: dict[str, Any], settings: TraceSettings, size: Size) -> tuple[int, int]:
    memory = Memory(trace_profile(facts, CONFIG, settings), Workload(size, on_gpu=False))
    found = memory.device(range(memory.num_units))
    return found.weights, found.gradients + found.activations + found.logits


@pytest.mark.parametrize(
    ("family", "size"),
    [
        pytest.param("mamba", Size(1, 48, 16), marks=pytest.mark.soak),  # walks single tokens as recurrent_gemma does
        pytest.param("mamba2", Size(1, 500, 16), marks=pytest.mark.soak),
        ("mamba2", Size(3, 256, 16)),
        ("bamba", Size(2, 333, 16)),
        ("qwen3_5_text", Size(1, 1000, 16)),
        pytest.param("kimi_linear", Size(1, 520, 16), marks=pytest.mark.soak),  # chunks of 64, as qwen3_5_text
        pytest.param("xlstm", Size(1, 777, 16), marks=pytest.mark.soak),  # the same
        ("recurrent_gemma", Size(1, 48, 16)),
    ],
    ids=str,
)
def test_a_scan_is_predicted_to_the_byte_at_another_length(family: str, size: Size) -> None:
    facts, settings = facts_of(family), TraceSettings(uneven=size.rows > 1)
    assert predicted(facts, settings, size) == full_trace(facts, CONFIG, settings, size)


def test_at_whole_chunks_no_token_is_walked_by_itself() -> None:
    rest, whole = (monomials(Size(1, tokens, 16), 64, walks_rest=True) for tokens in (129, 128))
    one_by_one = [EXPONENTS.index((1, 0, 0, 0, 0, 1)), EXPONENTS.index((1, 0, 0, 1, 0, 0))]
    assert rest[one_by_one].tolist() == [1, 192]
    assert whole[one_by_one].tolist() == [0, 192]


@pytest.mark.parametrize(("family", "chunk"), [("mamba", 1), ("mamba2", 16), ("bamba", 16), ("qwen3_5_text", 64)])
def test_the_chunk_is_found_in_the_config_or_in_the_familys_functions(family: str, chunk: int) -> None:
    facts = facts_of(family)
    base = build_base(facts, TraceSettings())
    found = find_blocks(base)
    assert found is not None
    assert scan_chunk(base.config, found[1]) == chunk


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("chunk", [16, 64, 256])
def test_rows_of_a_trace_end_within_a_chunk(chunk: int, uneven: bool) -> None:
    settings = TraceSettings(uneven=uneven)
    sizes = trace_sizes(settings, (), None, 2**20, chunk)
    gaps = [padded_to(size.tokens, chunk) - size.tokens for size in sizes]
    chunks = [padded_to(size.tokens, chunk) // chunk for size in sizes]
    assert len(set(gaps)) == len(set(chunks)) == 3
    assert all(gap > 0 for gap in gaps)
    rests = [size.tokens % chunk for size in short_sizes(settings, chunk)]
    assert 0 < rests[0] < rests[1] < rests[2], "a few single tokens behind them"


def test_a_scan_that_takes_too_long_is_given_up_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "TRACE_SECONDS", 0)
    with pytest.raises(UntraceableError, match="takes more than 0 s to trace"):
        trace_profile(facts_of("mamba"), CONFIG, TraceSettings())


# ------------------------------------------------------------------------------------------ rounds of a loop

A, B, C, D = 1, 2, 3, 4


def events(rounds: int, each: float, kinds: tuple[int, ...] = (B, C)) -> Events:
    """One before, so many rounds, one behind."""
    values = [100.0, *([each, -1.0] * rounds), 7.0]
    return Events(np.array([A, *(kinds * rounds), D]), np.array(values))


def test_rounds_that_some_sizes_have_more_of_become_one_value() -> None:
    seen = [events(4, 3.0), events(5, 3.0), events(8, 3.0)]
    folded = fold(seen, [[4, 5, 8]])
    assert folded is not None
    assert len({len(values) for values in folded}) == 1
    assert [values.sum() for values in folded] == [one.values.sum() for one in seen]
    assert [max(np.cumsum(values)) for values in folded] == [max(np.cumsum(one.values)) for one in seen]


def test_a_peak_in_the_first_round_stays_ahead_of_what_is_folded() -> None:
    """As in a backward pass: each round lets go of what its forward round has kept, and there are few behind the fold."""
    seen = [events(rounds, 0.5) for rounds in (2, 3, 6)]
    folded = fold(seen, [[2, 3, 6]])
    assert folded is not None
    assert [values.sum() for values in folded] == [one.values.sum() for one in seen]
    assert [max(np.cumsum(values)[:-1]) for values in folded] == [max(np.cumsum(one.values)[:-1]) for one in seen]


def test_more_rounds_than_a_loop_over_tokens_or_chunks_makes_are_not_folded() -> None:
    assert fold([events(4, 3.0), events(6, 3.0), events(7, 3.0)], [[4, 5, 8], [16, 24, 40]]) is None


def test_events_that_differ_otherwise_are_not_folded() -> None:
    other = events(5, 3.0)
    other.kinds[-1] = B
    assert fold([events(4, 3.0), other, events(8, 3.0)], [[4, 5, 8]]) is None
