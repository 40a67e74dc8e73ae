"""Which rows are in a batch, and in an optimizer step, under each way of putting them together."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.label_count import labels_that_count
from lora_backend.modeling.load import load_tokenizer
from lora_backend.modeling.loss import IGNORED
from lora_backend.tokens.epoch_order import EpochOrder, SharedRows
from lora_backend.training.batches import OwnBatches, by_length
from lora_backend.training.epoch_batches import EpochBatches, LineBatches, RowBatches
from lora_backend.training.flat_batch import Batch, flat_batch, num_rows_in, num_tokens_in
from tests.modeling.families import CONFIGS

Make = Callable[..., dict[str, Any]]
LENGTHS = np.random.default_rng(3).integers(2, 17, 23).astype(np.int32)


def row(number: int, length: int) -> dict[str, list[int]]:
    """Every token is the row's number; the first half is no answer."""
    return {
        "input_ids": [number] * length,
        "attention_mask": [1] * length,
        "labels": [IGNORED if place < length // 2 else number for place in range(length)],
    }


ROWS = [row(number, int(length)) for number, length in enumerate(LENGTHS, start=1)]


def made(config: Make, epochs: EpochBatches, collate: Any = flat_batch, **keys: Any) -> OwnBatches:
    grouped = keys.pop("in_length_groups", False)
    return OwnBatches(ROWS, epochs, collate, TrainingConfig(**config(**keys)), in_length_groups=grouped)


def numbers_in(batch: Batch) -> list[int]:
    """The rows of a flat batch."""
    ids = batch["input_ids"][0].split(list(batch["lengths"]))
    return [int(one[0]) for one in ids]


def steps_of(batches: OwnBatches, epoch: int, first_batch: int = 0) -> list[list[list[int]]]:
    """The rows of each batch of each optimizer step."""
    with closing(batches.windows(epoch, first_batch)) as windows:
        return [[numbers_in(batch) for batch in window] for window in windows]


def test_a_flat_batch_is_its_rows_one_behind_the_other() -> None:
    batch = flat_batch([row(5, 3), row(7, 1), row(6, 2)])
    assert batch["lengths"] == (3, 1, 2)
    assert batch["input_ids"].tolist() == [[5, 5, 5, 7, 6, 6]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1]]
    assert batch["labels"].tolist() == [[IGNORED, 5, 5, IGNORED, IGNORED, 6]]
    assert "attention_mask" not in batch
    assert {batch[name].dtype for name in ("input_ids", "position_ids", "labels")} == {torch.int64}
    assert (num_rows_in(batch), num_tokens_in(batch)) == (3, 6)


@pytest.mark.parametrize("epoch", [0, 3])
def test_each_step_has_the_rows_of_its_place_in_the_order_the_last_fewer(config: Make, epoch: int) -> None:
    order = EpochOrder.of_all(23, 42)
    batches = made(config, RowBatches(order, 2), batch_size=2, target_batch_size=6)
    steps = steps_of(batches, epoch)
    rows = (order.of(epoch) + 1).tolist()
    assert [[number for batch in step for number in batch] for step in steps] == [rows[at : at + 6] for at in range(0, 23, 6)]  # fmt: skip
    assert [[len(batch) for batch in step] for step in steps] == [[2, 2, 2]] * 3 + [[2, 2, 1]]
    assert steps_of(batches, epoch, 6) == steps[2:], "begun at any step"


def test_length_groups_leave_each_step_its_rows(config: Make) -> None:
    plain, grouped = (
        made(config, RowBatches(EpochOrder.of_all(23, 42), 2), batch_size=2, target_batch_size=6, in_length_groups=on)
        for on in (False, True)
    )
    for before, after in zip(steps_of(plain, 0), steps_of(grouped, 0), strict=True):
        assert sorted(chain(*before)) == sorted(chain(*after))
        lengths = [int(LENGTHS[number - 1]) for number in chain(*after)]
        assert lengths == sorted(lengths, reverse=True)
        assert [len(batch) for batch in before] == [len(batch) for batch in after]
    assert by_length([[row(1, 3), row(2, 3)], [row(3, 4)]]) == [[row(3, 4), row(1, 3)], [row(2, 3)]]


def packed(order: EpochOrder, lines: int = 1, most: int = 32) -> LineBatches:
    return LineBatches(order, LENGTHS, most, lines)


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_packed_lines_hold_every_row_once_an_epoch_and_no_more_tokens_than_they_may(config: Make, lines: int) -> None:
    order = EpochOrder.of_all(23, 42)
    batches = made(config, packed(order, lines), batch_size=lines, target_batch_size=2 * lines, num_epochs=2)
    for epoch in range(3):
        steps = steps_of(batches, epoch)
        assert sorted(chain(*chain(*steps))) == list(range(1, 24))
        assert len(steps) == math.ceil(batches.num_in(epoch) / 2)
        assert all(sum(int(LENGTHS[number - 1]) for number in batch) <= 32 * lines for step in steps for batch in step)
    assert batches.total_steps == 2 * len(steps_of(batches, 0))
    few = math.ceil(int(LENGTHS.sum()) / 32)
    assert sum(len(step) for step in steps_of(made(config, packed(order), batch_size=1), 0)) <= few + 1


def test_packed_lines_follow_from_seed_and_epoch_and_begin_at_any_batch(config: Make) -> None:
    order = EpochOrder.of_all(23, 42)
    batches = made(config, packed(order), batch_size=1)
    first, second = steps_of(batches, 0), steps_of(batches, 1)
    assert first != second
    again = made(config, packed(EpochOrder.of_all(23, 42)), batch_size=1)
    assert steps_of(again, 1) == second, "without epoch 0 before it"
    assert steps_of(again, 1, 3) == second[3:]
    assert steps_of(made(config, packed(EpochOrder.of_all(23, 43)), batch_size=1), 0) != first
    longest = [max(int(LENGTHS[number - 1]) for number in step[0]) for step in first]
    assert longest != sorted(longest, reverse=True), "shuffled: packing alone begins with the longest rows"


def test_the_fullest_lines_are_what_memory_is_tried_with(config: Make) -> None:
    epochs = packed(EpochOrder.of_all(23, 42), 2)
    most = max(sum(int(LENGTHS[number]) for number in batch) for batch in epochs.of(0, 0))
    assert sum(int(LENGTHS[number]) for number in epochs.fullest()) >= most


def test_epochs_of_other_rows_have_their_own_counts_of_batches_and_steps(config: Make) -> None:
    """Half of a set: its long rows in one epoch and its short ones in the other would be the extreme."""
    order = EpochOrder([SharedRows(np.arange(23, dtype=np.int32), 0.5)], 11)
    batches = made(config, packed(order, most=17), batch_size=1, target_batch_size=2, num_epochs=2.5)
    counts = [batches.num_in(epoch) for epoch in range(3)]
    assert len(set(counts)) > 1
    assert [sum(len(step) for step in steps_of(batches, epoch)) for epoch in range(3)] == counts
    steps = [len(steps_of(batches, epoch)) for epoch in range(3)]
    assert batches.total_steps == steps[0] + steps[1] + math.ceil(steps[2] / 2)


def test_whole_sets_have_as_many_lines_in_every_epoch() -> None:
    order = EpochOrder([SharedRows(np.arange(10, dtype=np.int32), 2), SharedRows(np.arange(10, 23, dtype=np.int32))], 1)
    epochs = packed(order)
    assert epochs.are_alike
    assert len({sum(1 for _ in epochs.of(epoch, 0)) for epoch in range(5)} | {epochs.num_in(4)}) == 1


def test_how_full_lines_are_is_told() -> None:
    epochs = packed(EpochOrder.of_all(23, 42))
    assert epochs.filled == pytest.approx(int(LENGTHS.sum()) / (32 * epochs.num_in(0)))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_as_many_labels_count_flat_as_padded(family: str, tiny_model: Path) -> None:
    """GPT-2's class has no name by which transformers' Trainer knows its loss; where everything is trained it counts a
    label of each row that nothing predicts."""
    model = AutoModelForCausalLM.from_config(CONFIGS[family])
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids} for ids in ([5, 6, 7], [8], [9, 10])]
    padded = DataCollatorForSeq2Seq(load_tokenizer(str(tiny_model)))([dict(row) for row in rows])
    assert [labels_that_count(model, [batch["labels"]]) for batch in (padded, flat_batch(rows))] == [3, 3]
