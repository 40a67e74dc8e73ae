"""Rows that are there twice, on both sides of a split, or without an answer."""

from __future__ import annotations

import tracemalloc

import pytest

from lora_backend.data.data_report import RowNote
from lora_backend.data.examples import Chat, Example, Pair, Text
from lora_backend.data.row_scan import RowScan, digest_of


def chat(*turns: str, **more: object) -> Chat:
    """Turns of user and assistant, in turn."""
    roles = ("user", "assistant")
    return Chat(tuple({"role": roles[n % 2], "content": text, **more} for n, text in enumerate(turns)))


def scan(*examples: Example, numbers: list[int] | None = None) -> RowScan:
    found = RowScan()
    for number, example in zip(numbers or range(1, len(examples) + 1), examples, strict=True):
        found.add(number, example)
    return found


def test_a_row_that_was_there_before_is_named_by_its_number_in_the_file() -> None:
    rows = (chat("a", "b"), chat("c", "d"), chat("a", "b"), chat("a", "b"))
    assert scan(*rows, numbers=[1, 2, 7, 9]).duplicates() == [7, 9]
    assert scan(*rows[:2]).duplicates() == []
    assert scan().duplicates() == []


@pytest.mark.parametrize(
    "other",
    [
        chat("a", "c"), chat("a", "b", "c", "d"), Pair("a", "b"), Text("a"), Chat(chat("a", "b").messages, ({"name": "f"},)),
        Chat(chat("a", "b").messages, untrained=frozenset({1})), chat("a", "b", name="x"), chat("ab", ""),
    ],
)  # fmt: skip
def test_a_row_that_teaches_otherwise_is_another(other: Example) -> None:
    assert scan(chat("a", "b"), other).duplicates() == []


def test_the_order_of_keys_makes_no_other_row_and_half_a_surrogate_pair_is_text() -> None:
    turned = Chat(tuple(dict(reversed(message.items())) for message in chat("a", "b").messages))
    assert digest_of(turned) == digest_of(chat("a", "b"))
    assert digest_of(Text("\ud83d")) != digest_of(Text("\ud83e"))


def test_a_held_back_row_that_is_also_trained_on_is_named() -> None:
    rows = (chat("a", "b"), chat("c", "d"), chat("a", "b"), chat("e", "f"), chat("e", "f"))
    assert scan(*rows).in_both([2, 3, 4]) == [3], "two equal rows on the same side are no leak"
    assert scan(*rows).in_both([]) == []


def test_rows_without_an_answer_are_told_from_rows_with_an_empty_one() -> None:
    calls = Chat(({"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}))  # fmt: skip
    untrained = Chat(chat("a", "b").messages, untrained=frozenset({1}))
    rows = (chat("a", "b"), chat("a"), chat("a", " ", "c", "d"), calls, untrained, Pair("x", "\n"), Text(" "))
    notes = {note.code: note.rows for note in scan(*rows).notes()}
    assert notes == {"all_prompt": [2, 5, 6, 7], "empty_answer": [3]}


def test_a_note_counts_all_rows_and_names_the_first_hundred() -> None:
    (note,) = scan(*[chat("a", "b")] * 300).notes()
    assert note == RowNote(code="duplicate", count=299, rows=list(range(2, 102)))


def test_many_rows_take_little_memory() -> None:
    tracemalloc.start()
    found = RowScan()
    for number in range(20_000):
        found.add(number, Text(str(number)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.duplicates() == []
    assert peak < 20_000 * 40
