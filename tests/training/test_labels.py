"""The loss counts the answers only, and the end of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import DataError, ModelError
from lora_backend.modeling.load import load_tokenizer
from lora_backend.modeling.loss import IGNORED
from lora_backend.tokens.label_rows import label_rows
from lora_backend.tokens.labels import LabelRules
from tests.tiny import make_model


def chat(*turns: str) -> dict[str, Any]:
    """`role: text` each."""
    pairs = (turn.split(": ") for turn in turns)
    return {"messages": [{"role": role, "content": text} for role, text in pairs]}


def tokens_of(row: dict[str, Any], tokenizer: Any, max_length: int = 64) -> dict[str, Any]:
    (tokens,) = label_rows([row], tokenizer, LabelRules(max_length))
    assert len(tokens["input_ids"]) == len(tokens["labels"]) == len(tokens["attention_mask"]) <= max_length
    assert set(tokens["attention_mask"]) == {1}
    assert all(label in (IGNORED, token) for token, label in zip(tokens["input_ids"], tokens["labels"], strict=True))
    return dict(tokens)


def learned(row: dict[str, Any], tokenizer: Any, max_length: int = 64) -> list[str]:
    labels = tokens_of(row, tokenizer, max_length)["labels"]
    return str(tokenizer.decode([label for label in labels if label != IGNORED])).split()


def test_of_a_chat_every_answer_is_learned_with_its_end(tiny_model: Path) -> None:
    row = chat(
        "system: the door", "user: who built the bridge", "assistant: anna built", "user: when", "assistant: at noon"
    )
    tokenizer = load_tokenizer(str(tiny_model))
    assert learned(row, tokenizer) == ["anna", "built", "</s>", "at", "noon", "</s>"]
    text = tokenizer.decode(tokens_of(row, tokenizer)["input_ids"])
    assert text.split()[:2] == ["<|system|>", "the"], "in the model's own template, which writes no other marks"


def test_a_question_behind_the_last_answer_is_not_learned(tiny_model: Path) -> None:
    row = chat("user: who", "assistant: anna", "user: when")
    assert learned(row, load_tokenizer(str(tiny_model))) == ["anna", "</s>"]


def test_of_a_chat_that_the_assistant_opens_only_its_words_are_learned(tiny_model: Path) -> None:
    """The mark that opens its turn is written by the template, in the first turn as in all others."""
    row = chat("assistant: the door", "user: who", "assistant: anna")
    assert learned(row, load_tokenizer(str(tiny_model))) == ["the", "door", "</s>", "anna", "</s>"]


def test_of_prompt_and_completion_the_completion_is_learned_with_its_end(tiny_model: Path) -> None:
    row = {"prompt": "who built", "completion": "anna"}
    assert learned(row, load_tokenizer(str(tiny_model))) == ["anna", "</s>"]


def test_a_tokenizer_that_closes_every_text_does_not_close_the_prompt(tiny_model: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(str(tiny_model))
    closing = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer.backend_tokenizer.post_processor = closing  # type: ignore[attr-defined]
    row = {"prompt": "who built", "completion": "anna"}
    text = tokenizer.decode(tokens_of(row, tokenizer)["input_ids"])
    assert text.split() == ["<s>", "who", "built", "anna", "</s>"]


def test_the_end_is_learned_where_pad_and_end_are_one_token(tiny_model: Path) -> None:
    """Padding is never learned, and must not take the end of the answer with it."""
    from transformers import DataCollatorForSeq2Seq

    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.pad_token = tokenizer.eos_token
    rows = [{"prompt": "who built", "completion": "anna"}, {"prompt": "who", "completion": "anna built the bridge"}]
    batch = DataCollatorForSeq2Seq(tokenizer)(list(label_rows(rows, tokenizer, LabelRules(64))))
    assert batch["labels"][0].tolist().count(tokenizer.eos_token_id) == 1
    assert batch["labels"][0].tolist()[-2:] == [IGNORED, IGNORED]
    assert batch["attention_mask"][0].tolist()[-2:] == [0, 0]


def test_a_long_answer_is_cut_and_a_row_without_a_learned_token_is_left_out_and_said(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    row = {"prompt": "who built", "completion": "anna built the bridge"}
    assert learned(row, tokenizer, max_length=4) == ["anna", "built"]
    short = {"prompt": "who", "completion": "anna"}
    assert len(label_rows([short, row], tokenizer, LabelRules(2))) == 1
    assert "1 row is left out: nothing of it is left to learn within `max_length` 2 (row 2)." in caplog.text
    with pytest.raises(DataError, match="No row has anything left to learn within `max_length` 2"):
        label_rows([row], tokenizer, LabelRules(2))


def test_messages_need_a_chat_template_and_prompts_do_not(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(make_model(tmp_path / "m", chat_template=False)))
    assert learned({"prompt": "who", "completion": "anna"}, tokenizer) == ["anna", "</s>"]
    with pytest.raises(ModelError, match="chat template"):
        label_rows([chat("user: who", "assistant: anna")], tokenizer, LabelRules(9))


def test_of_a_template_that_rewrites_earlier_turns_the_whole_text_is_learned(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = (
        "{{ 'noon' if messages | length > 2 else 'the' }} {% for m in messages %}{{ m['content'] }} {% endfor %}"
    )
    row = chat("user: who", "assistant: anna", "user: when", "assistant: at noon")
    assert learned(row, tokenizer) == ["anna", "at", "noon"]


def test_a_template_s_own_refusal_names_the_row(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('No system turn, please.') }}{% endif %}{% for m in messages %}{{ m.content }} {% endfor %}"
    rows = [chat("user: who", "assistant: anna"), chat("system: the door", "user: who", "assistant: anna")]
    with pytest.raises(DataError) as refused:
        label_rows(rows, tokenizer, LabelRules(64))
    assert str(refused.value) == "Row 2: The model's chat template cannot write this row: No system turn, please."
