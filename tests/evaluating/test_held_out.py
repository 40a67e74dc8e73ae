"""The loss of a row is that of the row alone, as torch computes it, whatever batch it shares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedModel

from lora_backend.evaluating import held_out
from lora_backend.evaluating.held_out import RowLosses, loss_of
from lora_backend.modeling.loss import IGNORED, ChunkedLoss
from lora_backend.modeling.out_of_memory import OutOfMemoryError
from lora_backend.tokens.token_rows import PackedRow

LENGTHS = (5, 31, 2, 17, 9, 31, 12)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def rows(model: PreTrainedModel) -> list[PackedRow]:
    """Of several lengths, not in their order; about half of each is learned, of the shortest its last token."""
    generator = np.random.default_rng(0)
    rows = []
    for length in LENGTHS:
        trained = generator.random(length) < 0.5
        trained[-1] = True
        rows.append(PackedRow(generator.integers(4, model.config.vocab_size, length).astype(np.int32), trained))
    return rows


def plainly(model: PreTrainedModel, rows: Sequence[PackedRow]) -> RowLosses:
    """One row at a time, from all of its logits."""
    nats, tokens, right = [], [], []
    for row in rows:
        ids = torch.tensor(row.ids[None].astype(np.int64))
        aims = torch.where(torch.from_numpy(row.is_trained), ids[0], IGNORED)[1:]
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        nats.append(float(cross_entropy(logits, aims, ignore_index=IGNORED, reduction="sum")))
        tokens.append(int((aims != IGNORED).sum()))
        right.append(int((logits.argmax(-1) == aims).sum()))
    return RowLosses(np.array(nats), np.array(tokens), np.array(right))


def assert_same(found: RowLosses, wanted: RowLosses) -> None:
    np.testing.assert_allclose(found.nats, wanted.nats, rtol=2e-6, atol=1e-5)
    assert found.num_tokens.tolist() == wanted.num_tokens.tolist()
    assert found.num_right.tolist() == wanted.num_right.tolist()


def test_the_loss_equals_a_plain_loop_with_cross_entropy(model: PreTrainedModel, rows: list[PackedRow]) -> None:
    wanted = plainly(model, rows)
    found = loss_of(model, rows)
    assert_same(found, wanted)
    assert found.loss == pytest.approx(wanted.nats.sum() / wanted.num_tokens.sum(), rel=1e-6)
    assert found.token_accuracy == wanted.num_right.sum() / wanted.num_tokens.sum()


@pytest.mark.parametrize(("most_rows", "most_tokens"), [(1, 10**6), (3, 10**6), (64, 40)])
def test_a_loss_does_not_depend_on_the_batch(
    model: PreTrainedModel, rows: list[PackedRow], monkeypatch: pytest.MonkeyPatch, most_rows: int, most_tokens: int
) -> None:
    together = loss_of(model, rows)
    monkeypatch.setattr(held_out, "MOST_ROWS", most_rows)
    monkeypatch.setattr(held_out, "MOST_TOKENS", most_tokens)
    assert_same(loss_of(model, rows), together)
    backwards = loss_of(model, rows[::-1])
    assert_same(RowLosses(backwards.nats[::-1], backwards.num_tokens[::-1], backwards.num_right[::-1]), together)


def test_one_tile_of_logits_is_there_at_a_time(
    model: PreTrainedModel, rows: list[PackedRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = loss_of(model, rows), []
    before = torch.nn.functional.cross_entropy

    def watched(logits: torch.Tensor, aims: torch.Tensor, **options: str) -> torch.Tensor:
        seen.append(len(logits))
        return before(logits, aims, **options)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", watched)
    assert_same(loss_of(model, rows, tile_bytes=4 * model.config.vocab_size * 4), whole)
    tiles = seen[2:]  # behind the check of the model's own loss
    assert max(tiles) == 4
    assert sum(tiles) == whole.num_tokens.sum()


def test_a_model_whose_loss_is_not_its_logits_is_measured_from_its_logits(
    model: PreTrainedModel, rows: list[PackedRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = loss_of(model, rows)
    loss_function = model.loss_function
    monkeypatch.setattr(model, "loss_function", lambda *args, **options: loss_function(*args, **options) + 1)
    assert_same(loss_of(model, rows), wanted)


def test_what_does_not_fit_is_halved_and_a_row_alone_is_refused(
    model: PreTrainedModel, rows: list[PackedRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, most = loss_of(model, rows), 2
    forward = type(model).forward

    def of_few_rows(self: PreTrainedModel, *args: object, **inputs: object) -> object:
        ids = inputs["input_ids"]
        assert isinstance(ids, torch.Tensor)
        if len(ids) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(self, *args, **inputs)

    monkeypatch.setattr(type(model), "forward", of_few_rows)
    assert_same(loss_of(model, rows), whole)
    most = 0
    monkeypatch.setattr(held_out, "verified_chunked_loss", ChunkedLoss)
    with pytest.raises(OutOfMemoryError, match="A row of 31 tokens does not fit"):
        loss_of(model, rows)


def test_progress_is_told_behind_each_batch(model: PreTrainedModel, rows: list[PackedRow], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(held_out, "MOST_ROWS", 2)
    told: list[float] = []
    loss_of(model, rows, report=told.append)
    assert len(told) == 4
    assert told == sorted(told)
    assert told[-1] == 1
