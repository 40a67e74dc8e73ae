"""Rows are packed whole into lines, close to as few as can be, and the same each time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_backend.data.line_packing import pack_lines

LENGTHS = st.lists(st.integers(1, 40), max_size=60)


@given(LENGTHS, st.integers(1, 40))
def test_every_row_is_in_one_line_and_no_line_is_longer_than_it_may_be(lengths: list[int], most: int) -> None:
    lines = pack_lines(lengths, most)
    assert sorted(row for line in lines for row in line) == list(range(len(lengths)))
    assert all(len(line) == 1 or sum(lengths[row] for row in line) <= most for line in lines)


@given(LENGTHS, st.randoms(use_true_random=False))
def test_how_full_the_lines_are_follows_from_the_lengths_and_not_from_their_order(
    lengths: list[int], chance: random.Random
) -> None:
    shuffled = list(lengths)
    chance.shuffle(shuffled)
    filled = [sorted(sum(rows[row] for row in line) for line in pack_lines(rows, 40)) for rows in (lengths, shuffled)]
    assert filled[0] == filled[1]


def test_a_row_goes_where_the_least_room_is_left_over() -> None:
    assert pack_lines([7, 6, 3, 4], 10) == [[0, 2], [1, 3]]
    assert pack_lines([6, 7, 3], 10) == [[1, 2], [0]], "3 fits behind 6 too, and would leave one token of room"


@pytest.mark.parametrize("most", [512, 4096])
def test_lines_of_many_rows_are_nearly_full(most: int) -> None:
    chance = random.Random(1)
    lengths = [min(int(chance.lognormvariate(5, 0.8)) + 1, most) for _ in range(3000)]
    assert sum(lengths) / (most * len(pack_lines(lengths, most))) > 0.99


def test_rows_alike_come_in_their_order() -> None:
    assert pack_lines([5] * 5, 10) == [[0, 1], [2, 3], [4]]
