"""A row as the model's template writes it: each letter once, and what of it is trained on, special or cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_backend.data.data_question import DataQuestion
from lora_backend.data.rendered_row import RenderedRow
from lora_backend.errors import DataError
from lora_backend.installation import Installation, this_installation
from lora_backend.tokens import row_rendering
from lora_backend.tokens.labels import WholeRow
from lora_backend.tokens.row_rendering import pieces_of, show_asked
from tests.tiny import chats, save_tokenizer, stub_model, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = stub_model(tmp_path_factory.mktemp("model"))
    save_tokenizer(folder)
    return folder


@pytest.fixture
def places(tmp_path: Path) -> Installation:
    return this_installation({"FLIGHTDECK_HOME": str(tmp_path / "home"), "FLIGHTDECK_WORKSPACE": str(tmp_path / "ws")})


@pytest.fixture
def question(model: Path, tmp_path: Path) -> DataQuestion:
    rows: list[dict[str, Any]] = [*chats(1), {"messages": "?"}, {"prompt": None}]
    return DataQuestion(str(write_rows(tmp_path / "d.jsonl", rows)), model=str(model))


def said(row: RenderedRow) -> list[tuple[str, str]]:
    marks = [("t", "is_trained"), ("s", "is_special"), ("c", "is_cut")]
    return [(piece.text, "".join(mark for mark, name in marks if getattr(piece, name))) for piece in row.pieces]


def test_pieces_are_the_whole_text_with_what_is_trained_special_and_cut(
    question: DataQuestion, places: Installation
) -> None:
    (row,) = show_asked(question, places, rows=[1]).rows
    assert said(row) == [
        ("<|user|>", "s"), ("how tall is the tower", ""), ("</s>", "s"), ("<|assistant|>", "s"),
        ("the tower is nine metres tall", "t"), ("</s>", "ts"),
    ]  # fmt: skip
    assert (row.tokens, row.trained_tokens, row.note) == (15, 7, None)
    (cut,) = show_asked(replace(question, max_length=10), places, rows=[1]).rows
    assert said(cut)[-3:] == [("the tower", "t"), (" is nine metres tall", "c"), ("</s>", "sc")]
    assert cut.trained_tokens == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [({"max_length": 5}, "its answer begins after the cut"), ({"max_length": 5, "truncation": "drop"}, "is left out")],
)
def test_a_row_that_is_not_trained_on_says_why(
    change: dict[str, Any], words: str, question: DataQuestion, places: Installation
) -> None:
    (row,) = show_asked(replace(question, **change), places, rows=[1]).rows
    assert row.note is not None
    assert words in row.note.text("en")
    assert row.trained_tokens == 0
    assert row.pieces, "it is shown all the same"


def test_bad_and_refused_rows_have_a_note_and_no_pieces(
    question: DataQuestion, places: Installation, tmp_path: Path
) -> None:
    shown = show_asked(question, places, rows=[5, 6, 2]).rows
    assert [(row.row, bool(row.pieces), row.note is not None) for row in shown] == [(5, False, True), (6, False, True), (2, True, False)]  # fmt: skip
    strict = stub_model(tmp_path / "strict")
    save_tokenizer(strict)
    (strict / "chat_template.jinja").write_text("{{ raise_exception('Not today') }}")
    (row,) = show_asked(replace(question, model=str(strict)), places, rows=[1]).rows
    assert row.note is not None
    assert "Not today" in row.note.text("en")


def test_there_is_no_row_beyond_the_last(question: DataQuestion, places: Installation) -> None:
    with pytest.raises(DataError, match="There is no row 7: the data set has 6 rows"):
        show_asked(question, places, rows=[7])


def test_rows_are_found_by_what_they_say(
    question: DataQuestion, places: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = show_asked(question, places, search="THE DOOR")
    assert ([row.row for row in found.rows], found.is_whole) == ([3], True)
    assert show_asked(question, places, search="nowhere").rows == []
    monkeypatch.setattr(row_rendering, "MOST_FOUND", 2)
    found = show_asked(question, places, search="the")
    assert ([row.row for row in found.rows], found.is_whole) == ([1, 2], False)


def test_a_letter_of_several_tokens_stands_there_once_and_what_no_token_has_is_not_lost() -> None:
    whole = WholeRow("a 😀b!", [1, 2, 3, 4], [(0, 1), (2, 3), (2, 3), (3, 4)], [False, True, True, True], [False] * 4, [True] * 4)  # fmt: skip
    assert [(piece.text, piece.is_trained) for piece in pieces_of(whole)] == [("a", False), (" 😀b!", True)]
