"""Which rows an epoch takes of sets with shares, and that the order follows from seed and epoch alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from lora_backend.data.held_back import held_back, left_over
from lora_backend.tokens.epoch_order import EpochOrder, SharedRows


def order(*sets: tuple[int, float], seed: int = 7) -> EpochOrder:
    first, made = 0, []
    for number, share in sets:
        made.append(SharedRows(np.arange(first, first + number, dtype=np.int32), share))
        first += number
    return EpochOrder(made, seed)


def counts(given: EpochOrder, epochs: range) -> Counter[int]:
    return Counter(row for epoch in epochs for row in given.of(epoch).tolist())


def test_one_whole_set_is_in_the_order_that_torch_gives_for_seed_and_epoch() -> None:
    given = EpochOrder.of_all(1000, 42)
    for epoch in (0, 3):
        chance = torch.Generator().manual_seed(42 + epoch)
        assert given.of(epoch).tolist() == torch.randperm(1000, generator=chance).tolist()


def test_half_a_set_takes_the_other_half_in_the_next_epoch() -> None:
    given = order((10, 0.5))
    assert len(given) == 5
    assert [len(set(given.of(epoch).tolist())) for epoch in range(4)] == [5] * 4
    assert counts(given, range(2)) == counts(given, range(2, 4)) == Counter(range(10))


def test_shares_above_one_take_each_row_as_often_and_no_row_twice_more_than_another() -> None:
    assert counts(order((6, 2)), range(1)) == Counter(dict.fromkeys(range(6), 2))
    given = order((6, 1.5))
    assert set(counts(given, range(1)).values()) == {1, 2}
    assert counts(given, range(2)) == Counter(dict.fromkeys(range(6), 3))


def test_a_share_that_does_not_divide_the_rows_comes_to_each_of_them_in_turn() -> None:
    given = order((10, 0.3))
    assert counts(given, range(10)) == Counter(dict.fromkeys(range(10), 3))


def test_sets_are_mixed_and_one_without_a_share_is_left_out() -> None:
    given = order((8, 1), (4, 0), (8, 0.5))
    rows = given.of(0).tolist()
    assert len(given) == len(rows) == 12
    assert sorted(row for row in rows if row < 8) == list(range(8))
    assert not {8, 9, 10, 11} & set(rows)
    assert sum(row >= 12 for row in rows) == 4
    assert rows != sorted(rows)


def test_the_order_is_the_same_whenever_it_is_asked() -> None:
    sets = ((50, 0.3), (20, 1), (5, 2))
    later = order(*sets).of(5).tolist()
    again = order(*sets)
    for epoch in range(5):
        again.of(epoch)
    assert again.of(5).tolist() == later
    assert order(*sets, seed=8).of(5).tolist() != later


def test_rows_are_held_back_as_ever() -> None:
    """As `train_test_split` of datasets holds them back, which earlier checkpoints have gone by."""
    from datasets import Dataset

    parts = Dataset.from_list([{"row": row} for row in range(40)]).train_test_split(test_size=10, seed=3)
    trained, kept = left_over(40, 0.25, 3), held_back(40, 0.25, 3)
    assert (trained.tolist(), kept.tolist()) == (parts["train"]["row"][:], parts["test"]["row"][:])
