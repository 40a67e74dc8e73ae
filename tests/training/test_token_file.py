"""Rows as they are trained, token by token, in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.data.data_question import DataQuestion
from lora_backend.installation import this_installation
from lora_backend.tokens import token_file as module
from lora_backend.tokens.token_file import token_file
from tests.tiny import ANSWERS, QUESTIONS, chats, save_tokenizer, stub_model, write_rows


@pytest.fixture
def question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataQuestion:
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "cache"))
    folder = stub_model(tmp_path / "model")
    save_tokenizer(folder)
    path = write_rows(tmp_path / "chats.jsonl", [*chats(1), {"messages": []}])
    return DataQuestion(str(path), model=str(folder), max_length=12)


def test_each_good_row_has_its_ids_labels_and_tokens_after_the_cut(question: DataQuestion) -> None:
    found = token_file(question, this_installation())
    rows = [json.loads(line) for line in found.text.splitlines()]
    assert (found.rows, found.is_whole) == (4, True)
    assert [row["row"] for row in rows] == [1, 2, 3, 4]
    first = rows[0]
    assert len(first["input_ids"]) == len(first["labels"]) == len(first["tokens"]) == 12
    assert first["tokens"][:7] == ["<|user|>", *QUESTIONS[0].split(), "</s>"]
    trained = [token for token, label in zip(rows[1]["tokens"], rows[1]["labels"], strict=True) if label != -100]
    assert trained == [*ANSWERS[1].split(), "</s>"]


def test_it_ends_where_it_would_be_too_much_and_says_so(
    question: DataQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    assert (token_file(question, this_installation()).rows, token_file(question, this_installation()).is_whole) == (3, False)  # fmt: skip
    monkeypatch.setattr(module, "MOST_CHARS", 400)
    found = token_file(question, this_installation())
    assert (found.rows, found.is_whole) == (len(found.text.splitlines()), False)
    assert len(found.text) <= 400
