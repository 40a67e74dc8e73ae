"""What is left of a row that is too long, and which answers of a row are learned at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_backend.data.examples import Chat, Example, Pair
from lora_backend.modeling.load import load_tokenizer
from lora_backend.modeling.loss import IGNORED
from lora_backend.tokens.labels import Labelled, Labeller, LabelRules, RowRefused, WholeRow

TURNS = ["system: the door", "user: who built the bridge", "assistant: anna built the bridge", "user: when", "assistant: at noon"]  # fmt: skip


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(str(tiny_model))


def chat(*turns: str, untrained: frozenset[int] = frozenset()) -> Chat:
    pairs = (turn.split(": ") for turn in turns)
    return Chat(tuple({"role": role, "content": text} for role, text in pairs), untrained=untrained)


def labelled(example: Example, tokenizer: Any, max_length: int = 64, **rules: Any) -> Labelled:
    (row,) = Labeller(tokenizer, LabelRules(max_length, **rules)).label([example])
    assert isinstance(row, Labelled)
    assert len(row.input_ids) == len(row.labels) <= max_length
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.input_ids, strict=True))
    return row


def text(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids)).replace("<|", " <|").replace("</s>", " </s>").strip()


def learned(row: Labelled, tokenizer: Any) -> str:
    return " ".join(text(tokenizer, [label for label in row.labels if label != IGNORED]).split())


def left(row: Labelled, tokenizer: Any) -> str:
    return " ".join(text(tokenizer, row.input_ids).split())


def test_a_row_that_fits_is_whole(tokenizer: Any) -> None:
    row = labelled(chat(*TURNS), tokenizer, 23)
    assert (row.num_tokens, row.is_cut, row.has_lost_end, row.is_behind_cut, row.is_dropped) == (23, False, False, False, False)  # fmt: skip
    assert learned(row, tokenizer) == "anna built the bridge </s> at noon </s>"


def test_cut_answer_keeps_the_beginning(tokenizer: Any) -> None:
    row = labelled(chat(*TURNS), tokenizer, 12)
    assert (row.num_tokens, row.is_cut, row.has_lost_end, row.is_behind_cut) == (23, True, True, False)
    assert left(row, tokenizer) == "<|system|> the door </s> <|user|> who built the bridge </s> <|assistant|> anna"
    assert learned(row, tokenizer) == "anna"
    assert labelled(chat(*TURNS), tokenizer, 11).is_behind_cut


def test_drop_leaves_the_row_out(tokenizer: Any) -> None:
    row = labelled(chat(*TURNS), tokenizer, 22, truncation="drop")
    assert (row.input_ids, row.labels, row.num_tokens) == ([], [], 23)
    assert (row.is_dropped, row.is_behind_cut, row.is_cut) == (True, True, True)
    assert not labelled(chat(*TURNS), tokenizer, 23, truncation="drop").is_dropped


def test_cut_prompt_keeps_the_last_answer_whole_and_goes_to_the_beginning_of_a_turn(tokenizer: Any) -> None:
    row = labelled(chat(*TURNS), tokenizer, 12, truncation="cut_prompt")
    assert left(row, tokenizer) == "<|system|> the door </s> <|user|> when </s> <|assistant|> at noon </s>"
    assert (learned(row, tokenizer), row.has_lost_end) == ("at noon </s>", False)


def test_cut_prompt_leaves_out_a_system_turn_that_would_take_more_than_half(tokenizer: Any) -> None:
    row = labelled(chat(*TURNS), tokenizer, 7, truncation="cut_prompt")
    assert left(row, tokenizer) == "<|user|> when </s> <|assistant|> at noon </s>"
    inside = labelled(chat(*TURNS), tokenizer, 6, truncation="cut_prompt")
    assert left(inside, tokenizer) == "when </s> <|assistant|> at noon </s>"


def test_cut_prompt_does_not_learn_an_earlier_answer_without_its_beginning(tokenizer: Any) -> None:
    rows = chat("user: who", "assistant: anna built the bridge", "assistant: at noon")
    row = labelled(rows, tokenizer, 9, truncation="cut_prompt")
    assert left(row, tokenizer) == "anna built the bridge </s> <|assistant|> at noon </s>"
    assert learned(row, tokenizer) == "anna built the bridge </s> at noon </s>"
    row = labelled(rows, tokenizer, 8, truncation="cut_prompt")
    assert left(row, tokenizer) == "built the bridge </s> <|assistant|> at noon </s>"
    assert learned(row, tokenizer) == "at noon </s>"


def test_cut_prompt_takes_what_stands_behind_the_last_answer_first(tokenizer: Any) -> None:
    row = labelled(chat(*TURNS[1:3], "user: when does the train leave"), tokenizer, 12, truncation="cut_prompt")
    assert left(row, tokenizer) == "<|user|> who built the bridge </s> <|assistant|> anna built the bridge </s>"


def test_an_answer_that_is_longer_than_the_limit_keeps_its_beginning(tokenizer: Any) -> None:
    row = labelled(chat("user: who", "assistant: anna built the bridge"), tokenizer, 3, truncation="cut_prompt")
    assert (left(row, tokenizer), row.has_lost_end, row.is_behind_cut) == ("anna built the", True, False)


def test_cut_prompt_of_two_texts_keeps_the_mark_of_the_beginning(tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    row = labelled(Pair("who built the bridge ", "anna built"), tokenizer, 6, truncation="cut_prompt")
    assert left(row, tokenizer) == "<s> the bridge anna built </s>"
    assert learned(row, tokenizer) == "anna built </s>"


def test_the_last_answer_alone_is_learned(tokenizer: Any) -> None:
    row = labelled(chat(*TURNS), tokenizer, train_on="last_answer")
    assert learned(row, tokenizer) == "at noon </s>"


def test_everything_is_learned(tokenizer: Any) -> None:
    row = labelled(chat(*TURNS), tokenizer, train_on="everything")
    assert row.labels == row.input_ids
    assert labelled(chat(*TURNS), tokenizer, 12, train_on="everything").labels[-1] != IGNORED
    assert labelled(chat(*TURNS), tokenizer, 12, train_on="everything").has_lost_end


def test_an_answer_that_the_row_says_not_to_learn_has_no_label(tokenizer: Any) -> None:
    first, last = chat(*TURNS, untrained=frozenset({2})), chat(*TURNS, untrained=frozenset({4}))
    assert learned(labelled(first, tokenizer), tokenizer) == "at noon </s>"
    assert learned(labelled(last, tokenizer), tokenizer) == "anna built the bridge </s>"
    assert learned(labelled(last, tokenizer, train_on="last_answer"), tokenizer) == "anna built the bridge </s>"
    none = labelled(chat(*TURNS, untrained=frozenset({2, 4})), tokenizer)
    assert (none.is_behind_cut, none.is_cut, none.is_dropped) == (True, False, False)


def test_a_row_is_shown_with_all_its_tokens_and_what_becomes_of_each(tokenizer: Any) -> None:
    labeller = Labeller(tokenizer, LabelRules(12))
    row = labeller.whole(chat(*TURNS))
    assert isinstance(row, WholeRow)
    assert len(row.input_ids) == len(row.offsets) == len(row.trained) == len(row.special) == len(row.kept) == 23
    words = [row.text[begin:end] for begin, end in row.offsets]
    assert words == [tokenizer.convert_ids_to_tokens(token) for token in row.input_ids]
    assert [word for word, is_trained in zip(words, row.trained, strict=True) if is_trained] == ["anna", "built", "the", "bridge", "</s>", "at", "noon", "</s>"]  # fmt: skip
    assert {word for word, is_special in zip(words, row.special, strict=True) if is_special} == {"<|system|>", "<|user|>", "<|assistant|>", "</s>"}  # fmt: skip
    assert row.kept == [True] * 12 + [False] * 11


def test_two_texts_are_shown_with_the_marks_around_them(tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    row = Labeller(tokenizer, LabelRules(64)).whole(Pair("who built ", "anna"))
    assert isinstance(row, WholeRow)
    assert row.text == "<s>who built anna</s>"
    assert [row.text[begin:end] for begin, end in row.offsets] == ["<s>", "who", "built", "anna", "</s>"]
    assert row.trained == [False, False, False, True, True]


def test_a_refused_row_leaves_the_others(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system.') }}{% endif %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"  # fmt: skip
    rows = Labeller(tokenizer, LabelRules(64)).label([chat(*TURNS), Pair("who ", "anna"), chat(*TURNS[1:])])
    refused, pair, good = rows
    assert isinstance(refused, RowRefused)
    assert (str(refused.message), refused.detail) == ("The model's chat template cannot write this row: No system.", "No system")  # fmt: skip
    assert isinstance(pair, Labelled)
    assert isinstance(good, Labelled)
    assert isinstance(Labeller(tokenizer, LabelRules(64)).whole(chat(*TURNS)), RowRefused)


def test_a_chat_whose_answers_cannot_be_told_is_refused_and_not_guessed(tokenizer: Any) -> None:
    """A template that takes its own text apart and puts it together another way, later turns first."""
    tokenizer.chat_template = "{% set ns = namespace(text='') %}{% for m in messages %}{% set ns.text = m.content + '</s> ' + ns.text %}{% endfor %}{{ ns.text }}"  # fmt: skip
    row = Labeller(tokenizer, LabelRules(64)).label([chat(*TURNS)])[0]
    assert isinstance(row, RowRefused)
    assert "cannot be found in the text" in str(row.message)
    assert row.detail is None


def test_a_text_with_the_characters_of_the_marks_is_told_by_what_stands_before(tokenizer: Any) -> None:
    row = labelled(chat("user: who \U0010c001", "assistant: anna"), tokenizer)
    assert learned(row, tokenizer) == "anna </s>"
