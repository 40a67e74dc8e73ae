"""Attention over a flat batch, held against each example computed by itself in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lora_backend.errors import ModelError
from lora_backend.kernels import varlen_attention
from lora_backend.kernels.causal_tiles import TILE, Shaping
from lora_backend.kernels.example_blocks import BLOCK_TOKENS, blocks_of
from lora_backend.kernels.flat_attention import NoExampleLengthsError, flat_attention_forward
from lora_backend.kernels.flat_inputs import boundaries, flat_inputs
from lora_backend.kernels.varlen_attention import attend_on_cuda

LENGTHS = (5, 1, 7, 7, 7, TILE + 6, 3, 2 * TILE + 11, 1)
LAYER = nn.Module()
LAYER.is_causal = True  # type: ignore[assignment]


def inputs(lengths=LENGTHS, heads=4, key_heads=2, width=8, value_width=8, dtype=torch.float64):
    """query, key, value, sinks, as a model makes them: its heads cut out of one row."""
    generator = torch.Generator().manual_seed(1)
    tokens = sum(lengths)
    shapes = [(heads, width), (key_heads, width), (key_heads, value_width)]
    made = [torch.randn(1, tokens, *shape, generator=generator, dtype=dtype).transpose(1, 2) for shape in shapes]
    return [one.requires_grad_() for one in (*made, torch.randn(heads, generator=generator, dtype=dtype))]


def reference(given, lengths, *, scaling=None, sliding_window=None, softcap=None, s_aux=None):
    """Each example alone, every pair of its tokens written out."""
    query, key, value, sinks = given
    key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], 1) for one in (key, value))
    outputs = []
    for q, k, v in zip(*(one[0].split(lengths, 1) for one in (query, key, value)), strict=True):
        scores = q @ k.mT * (q.shape[-1] ** -0.5 if scaling is None else scaling)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        width = len(q[0]) if sliding_window is None else sliding_window
        seen = [[row - width < column <= row for column in range(len(q[0]))] for row in range(len(q[0]))]
        exponentials = scores.masked_fill(~torch.tensor(seen), -torch.inf).exp()
        total = exponentials.sum(-1, keepdim=True)
        outputs.append(exponentials / (total + sinks.exp()[:, None, None] if s_aux else total) @ v)
    return torch.cat(outputs, 1).transpose(0, 1)[None]


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled": {"scaling": 0.3},
    "window": {"sliding_window": 6},
    "window of one": {"sliding_window": 1},
    "window wider than a tile": {"sliding_window": TILE + 9},
    "window wider than all": {"sliding_window": 1000},
    "softcap": {"softcap": 0.7},
    "sinks": {"s_aux": True},
    "all at once": {"s_aux": True, "softcap": 1.5, "sliding_window": 20, "scaling": 0.5},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [{}, {"key_heads": 4}, {"key_heads": 1}, {"value_width": 5}], ids=str)
def test_an_example_computes_what_it_computes_alone(kind: str, heads: dict[str, int]) -> None:
    given = inputs(**heads)
    options = dict(KINDS[kind])
    expected = reference(given, LENGTHS, **options)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sinks = {"s_aux": given[3]} if options.pop("s_aux", False) else {}
    wanted = given if sinks else given[:3]
    expected_gradients = torch.autograd.grad(expected, wanted, upstream)
    query, key, value, _ = given
    output, weights = flat_attention_forward(
        LAYER, query, key, value, None, example_lengths=LENGTHS, **options, **sinks
    )
    assert weights is None
    torch.testing.assert_close(output, expected)
    gradients = torch.autograd.grad(output, wanted, upstream)
    for gradient, one in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, one)


@pytest.mark.parametrize("kind", KINDS)
def test_another_token_changes_no_bit_of_another_example(kind: str) -> None:
    query, key, value, sinks = (one.detach() for one in inputs(dtype=torch.float32))
    options = dict(KINDS[kind])
    if options.pop("s_aux", False):
        options["s_aux"] = sinks
    before, _ = flat_attention_forward(LAYER, query, key, value, example_lengths=LENGTHS, **options)
    place = 14  # within the second of three examples of seven tokens, which are computed together
    for one in (query, key, value):
        one[:, :, place] += 1
    after, _ = flat_attention_forward(LAYER, query, key, value, example_lengths=LENGTHS, **options)
    same = [torch.equal(*pair) for pair in zip(before.split(LENGTHS, 1), after.split(LENGTHS, 1), strict=True)]
    assert same == [index != 3 for index in range(len(LENGTHS))]


def test_dropout_takes_so_many_probabilities_away_and_makes_up_for_them() -> None:
    lengths = (400, 100)
    query, key, _, _ = inputs(lengths, dtype=torch.float32)
    value = torch.ones(1, 2, 500, 1)
    torch.manual_seed(0)
    output, _ = flat_attention_forward(LAYER, query * 0, key, value, dropout=0.25, example_lengths=lengths)
    # Every query sees its n tokens alike: what is left of them is binomial, n at 0.75, over 0.75 n.
    last = output[0, 200:400, :, 0]
    assert last.mean().item() == pytest.approx(1, abs=0.01)
    assert 0.02 < last.std().item() < 0.05
    assert flat_attention_forward(LAYER, query * 0, key, value, example_lengths=lengths)[0].std() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_with_dropout_computes_the_same_but_for_it(kind: str) -> None:
    given = inputs()
    options = dict(KINDS[kind])
    expected = reference(given, LENGTHS, **options)
    if options.pop("s_aux", False):
        options["s_aux"] = given[3]
    output, _ = flat_attention_forward(LAYER, *given[:3], dropout=1e-12, example_lengths=LENGTHS, **options)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=1e-5)


def test_nothing_of_the_size_of_all_pairs_is_kept() -> None:
    lengths = (300, 200)
    given = [one.detach().requires_grad_() for one in inputs(lengths, dtype=torch.float32)[:3]]
    kept: list[torch.Tensor] = []

    def keep(one: torch.Tensor) -> torch.Tensor:
        kept.append(one)
        return one

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
        flat_attention_forward(LAYER, *given, example_lengths=lengths)
    inputs_size = sum(one.numel() for one in given)
    assert inputs_size <= sum(one.numel() for one in kept) <= 2 * inputs_size


def test_under_autocast_it_computes_in_the_lower_precision() -> None:
    query, key, value, _ = inputs(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = flat_attention_forward(LAYER, query, key.bfloat16(), value, example_lengths=LENGTHS)
    assert output.dtype == torch.bfloat16
    output.sum().backward()
    assert (query.grad is not None and query.grad.dtype) == torch.float32


def test_a_layer_that_is_told_no_lengths_or_asks_for_more_is_refused() -> None:
    query, key, value, _ = inputs()
    with pytest.raises(NoExampleLengthsError, match="Set `batching: padded`"):
        flat_attention_forward(LAYER, query, key, value)
    bias = torch.zeros(1, 4, sum(LENGTHS), sum(LENGTHS))
    for more in ({"attention_mask": bias}, {"position_bias": bias}, {"is_causal": False}):
        with pytest.raises(ModelError, match="Set `batching: padded`"):
            flat_attention_forward(LAYER, query, key, value, example_lengths=LENGTHS, **more)
    with pytest.raises(ModelError):
        flat_attention_forward(LAYER, query, key[:, :, 1:], value[:, :, 1:], example_lengths=LENGTHS)


@pytest.mark.parametrize("lengths", [(1,), (3, 3, 3), LENGTHS, tuple(range(1, 120)), (2000, 1, 2000)], ids=str)
def test_every_example_is_in_one_block_and_little_is_padded(lengths: tuple[int, ...]) -> None:
    blocks = blocks_of(lengths)
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    found = [pair for block in blocks for pair in zip(block.starts, block.lengths, strict=True)]
    assert sorted(found) == list(zip(starts, lengths, strict=True))
    for block in blocks:
        assert block.count == 1 or block.count * block.longest <= BLOCK_TOKENS
        flat = torch.arange(1, sum(lengths) + 1)[:, None, None].expand(-1, 2, 3).contiguous()
        again = torch.zeros_like(flat)
        gathered = block.gathered(flat)
        assert gathered.shape == (block.count, 2, block.longest, 3)
        assert gathered.sum() == sum(flat[s : s + n].sum() for s, n in zip(block.starts, block.lengths, strict=True))
        block.put_back(gathered, again)
        assert torch.equal(again != 0, sum((flat > s) & (flat <= s + n) for s, n in zip(block.starts, block.lengths, strict=True)) > 0)  # fmt: skip
    assert sum(block.count * block.longest**2 for block in blocks) <= 1.25 * sum(length**2 for length in lengths)


def test_a_model_is_told_where_examples_end_in_both_ways() -> None:
    tokens = torch.arange(6)[None]
    batch = {"input_ids": tokens, "labels": tokens, "position_ids": tokens, "lengths": (4, 2)}
    made = flat_inputs(batch)
    assert made["example_lengths"] == (4, 2)
    assert made["cu_seq_lens_q"].tolist() == made["cu_seq_lens_k"].tolist() == [0, 4, 6]
    assert made["cu_seq_lens_q"].dtype == torch.int32
    assert made["max_length_q"] == made["max_length_k"] == 4
    assert made.keys() - batch.keys() == {"example_lengths", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"}  # fmt: skip
    assert "lengths" not in made


@pytest.mark.parametrize("size", [1, 3])
def test_in_16_bits_it_is_as_exact_as_torchs_own(size: float) -> None:
    """Scores of up to about 40 among them, which rounded to bf16 would be wrong by 0.1."""
    lengths = (80, 80, 33, 200)
    exact = [
        one.detach() * (size if index < 2 else 1)
        for index, one in enumerate(inputs(lengths, width=32, value_width=32)[:3])
    ]
    exact = [one.bfloat16().double() for one in exact]
    upstream = torch.randn(1, 393, 4, 32, generator=torch.Generator().manual_seed(2)).bfloat16()

    def alone(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        parts = zip(*(one.split(lengths, 2) for one in (query, key, value)), strict=True)
        attend = nn.functional.scaled_dot_product_attention
        return torch.cat([attend(*part, is_causal=True, enable_gqa=True) for part in parts], 2).transpose(1, 2)

    def flat(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return flat_attention_forward(LAYER, query, key, value, example_lengths=lengths)[0]

    def computed(attend: Callable[..., torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
        given = [one.to(dtype).requires_grad_() for one in exact]
        output = attend(*given)
        return [output, *torch.autograd.grad(output, given, upstream.to(dtype))]

    def error(found: list[torch.Tensor]) -> float:
        pairs = zip(found, computed(alone, torch.float64), strict=True)
        return float(sum(((one.double() - other).norm() / other.norm()).item() for one, other in pairs))

    assert error(computed(flat, torch.bfloat16)) <= 1.1 * error(computed(alone, torch.bfloat16))


def test_on_cuda_torchs_kernel_is_called_once_with_where_examples_end(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def varlen(query: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        calls.append(((query, *rest), options))
        return query

    monkeypatch.setattr(varlen_attention, "varlen", lambda: varlen)
    query, key, value, _ = inputs((4, 2), value_width=5)
    ends = boundaries((4, 2), query.device)
    output = attend_on_cuda(query, key, value, (4, 2), Shaping(0.3, window=3), ends)
    assert output.shape == (1, 6, 4, 5)
    assert torch.equal(output[0], query[0].transpose(0, 1)[..., :5])
    (q, k, v, begins, also, longest, of_keys), options = calls[0]
    assert [q.shape, k.shape, v.shape] == [(6, 4, 8), (6, 2, 8), (6, 2, 8)]
    assert torch.equal(v[..., :5], value[0].transpose(0, 1))
    assert not v[..., 5:].any()
    assert begins.tolist() == also.tolist() == [0, 4, 6]
    assert longest == of_keys == 4
    # A window of three tokens is the token and two before it (torch, `varlen_attn`: `window_size`, left and right).
    assert options == {"scale": 0.3, "window_size": (2, 0), "enable_gqa": True}
    attend_on_cuda(query, query, query, (4, 2), Shaping(0.3))
    assert calls[1][1] == {"scale": 0.3, "window_size": (-1, 0), "enable_gqa": False}
    assert calls[1][0][3].tolist() == [0, 4, 6]


@pytest.mark.parametrize("more", [{"softcap": 1.0}, {"dropout": 0.1}, {"s_aux": torch.zeros(4)}])
def test_what_the_gpus_kernel_does_not_compute_is_refused(
    more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never left out: `why_not_flat` says it beforehand, this is for who comes another way."""
    monkeypatch.setattr(varlen_attention, "varlen", lambda: pytest.fail)
    query, key, value, _ = inputs((4, 2))
    given = {"softcap": None, "dropout": 0.0, "s_aux": None} | more
    with pytest.raises(ModelError, match="Set `batching: padded`"):
        attend_on_cuda(query, key, value, (4, 2), Shaping(1.0, softcap=given["softcap"]), dropout=given["dropout"], sinks=given["s_aux"])  # fmt: skip


def test_torchs_kernel_takes_what_it_is_given() -> None:
    """Its own shapes and options, on fake tensors: no GPU is needed for that."""
    with FakeTensorMode():
        query, key, value = (torch.zeros(1, heads, 6, 8, dtype=torch.bfloat16) for heads in (4, 2, 2))
        output = attend_on_cuda(query, key, value, (4, 2), Shaping(0.3, window=3))
    assert output.shape == (1, 6, 4, 8)


def test_it_runs_on_fake_tensors() -> None:
    with FakeTensorMode():
        query, key, value = (torch.zeros(1, heads, 6, 8, requires_grad=True) for heads in (4, 2, 2))
        output, _ = flat_attention_forward(LAYER, query, key, value, example_lengths=(4, 2), sliding_window=2)
        output.sum().backward()
        assert query.grad is not None
    assert output.shape == (1, 6, 4, 8)
