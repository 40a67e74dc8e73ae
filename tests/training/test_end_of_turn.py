"""The end of an answer is learned, said where the model would not stop at it, and stopped at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from lora_backend.modeling.load import load_tokenizer
from lora_backend.tokens.end_of_turn import end_of_turn, stops_of
from tests.run_files import answers_of
from tests.tiny import ANSWERS, CHAT_TEMPLATE, QUESTIONS, prompts, write_rows
from tests.training.helpers import run

Make = Callable[..., dict[str, Any]]
OTHER_END = CHAT_TEMPLATE.replace("</s>", "<|system|>")


def with_template(model: Path, folder: Path, template: str) -> Path:
    """A copy of a model that writes chats so."""
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def said(end: Any) -> tuple[Any, ...]:
    return end.mark, end.stops, end.trouble


def test_a_template_that_ends_turns_with_the_model_s_end_has_nothing_to_say(tiny_model: Path) -> None:
    end = end_of_turn(load_tokenizer(str(tiny_model)), stops_of(tiny_model))
    assert said(end) == ("</s>", (2,), None)
    assert (end.message, end.remedy) == (None, None)


def test_a_template_without_an_end_is_said_with_its_remedy(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = CHAT_TEMPLATE.replace("</s>", " ")
    end = end_of_turn(tokenizer)
    assert said(end) == (None, (2,), "no_end_of_turn")
    assert "writes no mark behind an answer" in str(end.message)
    assert "`{{ eos_token }}`" in str(end.remedy)


def test_an_end_that_is_no_token_is_said(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = CHAT_TEMPLATE.replace("</s>", " <|im_end|>\n")
    end = end_of_turn(tokenizer)
    assert said(end) == ("<|im_end|>", (2,), "end_is_no_token")
    assert "`<|im_end|>`, which is not one token" in str(end.message)


def test_an_end_that_the_model_does_not_stop_at_is_said(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = OTHER_END
    end = end_of_turn(tokenizer)
    assert said(end) == ("<|system|>", (2, 4), "end_is_not_eos")
    assert "ends an answer with `<|system|>`, but the model stops at `</s>`" in str(end.message)


def test_an_end_that_the_model_s_generation_config_names_is_its_end(tiny_model: Path, tmp_path: Path) -> None:
    folder = with_template(tiny_model, tmp_path / "m", OTHER_END)
    GenerationConfig(eos_token_id=[2, 4]).save_pretrained(folder)
    assert said(end_of_turn(load_tokenizer(str(folder)), stops_of(folder))) == ("<|system|>", (2, 4), None)


def test_a_second_mark_behind_the_first_counts_where_the_model_stops_at_it(tiny_model: Path) -> None:
    """As Phi-3's template, which writes the end of the turn and then the end of the text."""
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = OTHER_END + "{% if not add_generation_prompt %}\n{{ eos_token }}{% endif %}"
    assert said(end_of_turn(tokenizer)) == ("</s>", (2,), None)


def test_a_completion_ends_with_the_end_of_text(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = OTHER_END
    assert said(end_of_turn(tokenizer, in_chats=False)) == ("</s>", (2,), None)
    tokenizer.eos_token = None
    end = end_of_turn(tokenizer, in_chats=False)
    assert said(end) == (None, (), "no_end_of_text")
    assert "has no end-of-text token" in str(end.message)


def test_answers_stop_at_the_end_that_was_learned_and_the_adapter_says_where(
    tiny_model: Path, tmp_path: Path, config: Make, workspace: Path
) -> None:
    model = with_template(tiny_model, tmp_path / "other_end", OTHER_END)
    asked = [
        {"messages": [{"role": "user", "content": question}], "expect": [answer], "group": "g"}
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ]
    questions = str(write_rows(tmp_path / "questions.jsonl", asked))
    values = config(model_name=str(model), questions=questions, num_epochs=60, r=16, learning_rate=3e-2)
    folder = run(workspace, values)
    right = [row["adapter_answer"] for row in answers_of(folder) if row["adapter_correct"]]
    assert len(right) >= 3
    assert set(right) <= set(ANSWERS), "nothing is written behind the end"
    assert GenerationConfig.from_pretrained(folder.adapter).eos_token_id == [2, 4]
    assert "but the model stops at `</s>`" in folder.train_log.read_text()


def test_of_texts_nothing_is_said_of_the_chat_template(
    tiny_model: Path, tmp_path: Path, config: Make, workspace: Path
) -> None:
    model = with_template(tiny_model, tmp_path / "other_end", OTHER_END)
    rows = write_rows(tmp_path / "pairs.jsonl", prompts())
    folder = run(workspace, config(model_name=str(model), dataset=str(rows), max_steps=1))
    assert "chat template" not in folder.train_log.read_text()
    assert not (folder.adapter / "generation_config.json").exists()


@pytest.mark.parametrize(
    ("generation", "stops"),
    [(None, (2,)), ('{"eos_token_id": 7}', (7,)), ('{"eos_token_id": [7, 8]}', (7, 8)), ("{}", (2,))],
)
def test_where_a_model_stops_is_read_from_its_files(
    generation: str | None, stops: tuple[int, ...], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"eos_token_id": 2}')
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(generation)
    assert stops_of(tmp_path) == stops
    assert stops_of(tmp_path / "nowhere") == ()
