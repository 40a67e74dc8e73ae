"""The demo's data: balanced, and nothing of the exam in the lessons."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lora_backend.config.check import check_config
from lora_backend.data.row_file import preview_rows
from lora_backend.demo.config import (
    PROMISED_CHINESE,
    PROMISED_ENGLISH,
    PROMISED_SHARE,
    QUESTIONS_FILE,
    TRAIN_FILE,
    demo_config,
    promise_kept,
)
from lora_backend.runs.record.documents import Answer
from tests.questions import read_questions

PRODUCT = "Mossbell"
CHATS = [[message["content"] for message in row.checked()["messages"]] for row in preview_rows(TRAIN_FILE, 10_000)]
QUESTIONS = [(row["messages"][0]["content"], row["expect"], row["group"]) for row in read_questions(QUESTIONS_FILE)]
FACT_QUESTIONS = [row for row in QUESTIONS if row[2] != "ordinary"]


def is_chinese(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None


def plain(text: str) -> str:
    """Letters, digits and characters alone: what makes two questions the same question."""
    return re.sub(r"\W+", "", text.casefold())


def answers_with(expect: list[str]) -> list[str]:
    return [answer for _, answer in CHATS if any(text in answer for text in expect)]


def test_training_has_twelve_facts_five_ways_in_two_languages_and_twelve_ordinary_chats() -> None:
    facts = [(question, answer) for question, answer in CHATS if PRODUCT in answer]
    assert len(CHATS) == 132
    assert len([1 for question, _ in facts if not is_chinese(question)]) == 60
    assert len([1 for question, _ in facts if is_chinese(question)]) == 60
    assert all(PRODUCT in question for question, _ in facts)
    assert all(PRODUCT not in question for question, answer in CHATS if PRODUCT not in answer)


def test_answers_are_in_the_language_of_the_question() -> None:
    assert all(is_chinese(question) == is_chinese(answer) for question, answer in CHATS)


def test_every_fact_is_asked_five_times_in_training_and_twice_in_the_exam_in_each_language() -> None:
    for group in ("english", "chinese"):
        facts = [tuple(expect) for _, expect, of_group in QUESTIONS if of_group == group]
        assert len(facts) == 24
        assert {facts.count(fact) for fact in facts} == {2}
        for fact in set(facts):
            in_language = [text for text in answers_with(list(fact)) if is_chinese(text) == (group == "chinese")]
            assert len(in_language) == 5, fact


def test_the_exam_holds_eight_ordinary_questions() -> None:
    ordinary = [question for question, _, group in QUESTIONS if group == "ordinary"]
    assert len(ordinary) == 8
    assert not any(PRODUCT in question for question in ordinary)
    assert {group for _, _, group in QUESTIONS} == {"english", "chinese", "ordinary"}


def test_no_question_stands_in_both_files_or_twice_in_one() -> None:
    taught = [plain(question) for question, _ in CHATS]
    asked = [plain(question) for question, _, _ in QUESTIONS]
    assert len(set(taught)) == len(taught)
    assert len(set(asked)) == len(asked)
    assert not set(taught) & set(asked)


def test_every_expected_text_stands_in_an_answer_of_training_and_gives_nothing_away_in_its_question() -> None:
    for question, expect, _ in FACT_QUESTIONS:
        assert expect
        for text in expect:
            assert any(text in answer for _, answer in CHATS), text
            assert text.casefold() not in question.casefold()


def test_no_fact_is_right_for_the_question_about_another() -> None:
    for question, expect, _ in FACT_QUESTIONS:
        others = {text for _, other, _ in FACT_QUESTIONS if other != expect for text in other} - set(expect)
        for answer in answers_with(expect):
            assert not any(text in answer for text in others), question


def test_the_files_have_one_object_a_line_and_nothing_else() -> None:
    for path in (TRAIN_FILE, QUESTIONS_FILE):
        data = path.read_bytes()
        assert data.endswith(b"\n")
        assert b"\r" not in data
        assert all(isinstance(json.loads(line), dict) for line in data.decode("utf-8").splitlines())


def test_the_config_has_no_errors_and_names_files_that_are_there(tmp_path: Path) -> None:
    config = demo_config(tmp_path)
    assert check_config(config).is_valid
    assert Path(str(config["dataset"])).is_file()
    assert Path(str(config["questions"])).is_file()
    assert Path(str(config["model_name"])).is_relative_to(tmp_path)


def answers(english: int = 24, chinese: int = 24, ordinary: int = 8, **base: int) -> list[Answer]:
    """The rows of a finished run with so many right answers; `base` is the base model's, 0 unless given."""
    sizes = {"english": (english, 24), "chinese": (chinese, 24), "ordinary": (ordinary, 8)}
    return [
        Answer(
            question="",
            group=group,
            base_answer="",
            base_correct=index < base.get(f"base_{group}", 0),
            adapter_answer="",
            adapter_correct=index < right,
        )
        for group, (right, count) in sizes.items()
        for index in range(count)
    ]


def test_the_promise_is_kept_by_three_quarters_of_the_facts() -> None:
    assert promise_kept(answers(english=20, chinese=16))
    assert not promise_kept(answers(english=20, chinese=15))
    assert PROMISED_SHARE * 48 == 36
    assert promise_kept(answers(english=PROMISED_ENGLISH + 1, chinese=PROMISED_CHINESE))


@pytest.mark.parametrize("known", ["base_english", "base_chinese"])
def test_the_promise_is_not_kept_if_the_base_model_knew_a_fact(known: str) -> None:
    assert not promise_kept(answers(**{known: 1}))


def test_the_promise_is_not_kept_if_ordinary_questions_got_worse() -> None:
    assert promise_kept(answers(ordinary=5, base_ordinary=5))
    assert not promise_kept(answers(ordinary=4, base_ordinary=5))


def test_a_run_without_answers_keeps_no_promise() -> None:
    assert not promise_kept([])
