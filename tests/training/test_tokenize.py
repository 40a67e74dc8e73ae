"""The loss counts the answers only, and the end of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import DataError, ModelError
from lora_backend.modeling.load import load_tokenizer
from lora_backend.training.tokenize import IGNORED, tokenize_rows
from tests.tiny import make_model


def learned(row: dict[str, Any], tokenizer: Any, max_length: int = 64) -> str:
    (tokens,) = tokenize_rows([row], tokenizer, max_length)
    assert len(tokens["input_ids"]) == len(tokens["labels"]) == len(tokens["attention_mask"])
    return str(tokenizer.decode([label for label in tokens["labels"] if label != IGNORED]))


def test_of_a_chat_every_answer_is_learned_with_its_end(tiny_model: Path) -> None:
    turns = [
        ("system", "the door"),
        ("user", "who built the bridge"),
        ("assistant", "anna built"),
        ("user", "when"),
        ("assistant", "at noon"),
    ]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    assert learned(row, load_tokenizer(str(tiny_model))).split() == ["anna", "built", "</s>", "at", "noon", "</s>"]


def test_of_prompt_and_completion_the_completion_is_learned_with_its_end(tiny_model: Path) -> None:
    assert learned({"prompt": "who built", "completion": "anna"}, load_tokenizer(str(tiny_model))).split() == [
        "anna",
        "</s>",
    ]


def test_a_long_answer_is_cut_and_a_row_without_a_learned_token_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    row = {"prompt": "who built", "completion": "anna built the bridge"}
    assert learned(row, tokenizer, max_length=4).split() == ["anna", "built"]
    with pytest.raises(DataError, match="Row 1"):
        tokenize_rows([row], tokenizer, 2)


def test_messages_need_a_chat_template(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(make_model(tmp_path / "m", chat_template=False)))
    with pytest.raises(ModelError, match="chat template"):
        tokenize_rows(
            [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}], tokenizer, 9
        )
