"""Rows are the same where they teach the same."""

from __future__ import annotations

import pytest

from lora_backend.data.data_report import RowNote, note_of
from lora_backend.data.example_digest import digest_of
from lora_backend.data.examples import Chat, Example, Pair, Text


def chat(*turns: str, **more: object) -> Chat:
    """Turns of user and assistant, in turn."""
    roles = ("user", "assistant")
    return Chat(tuple({"role": roles[n % 2], "content": text, **more} for n, text in enumerate(turns)))


@pytest.mark.parametrize(
    "other",
    [
        chat("a", "c"), chat("a", "b", "c", "d"), Pair("a", "b"), Text("a"), Chat(chat("a", "b").messages, ({"name": "f"},)),
        Chat(chat("a", "b").messages, untrained=frozenset({1})), chat("a", "b", name="x"), chat("ab", ""),
    ],
)  # fmt: skip
def test_a_row_that_teaches_otherwise_is_another(other: Example) -> None:
    assert digest_of(chat("a", "b")) != digest_of(other)


def test_the_order_of_keys_makes_no_other_row_and_half_a_surrogate_pair_is_text() -> None:
    turned = Chat(tuple(dict(reversed(list(message.items()))) for message in chat("a", "b").messages))
    assert digest_of(turned) == digest_of(chat("a", "b"))
    assert digest_of(Text("\ud83d")) != digest_of(Text("\ud83e"))


def test_a_note_counts_all_rows_and_names_the_first_hundred() -> None:
    assert note_of("duplicate", list(range(2, 301))) == RowNote(code="duplicate", count=299, rows=list(range(2, 102)))
