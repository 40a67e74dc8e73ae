"""When an answer is right, and how right ones are counted."""

from __future__ import annotations

from lora_backend.evaluating.right_answers import is_exact, judged, normalised, score, scores_by_group
from lora_backend.runs.record.evaluation_documents import EvaluatedAnswer


def test_an_exact_answer_may_differ_in_case_spaces_and_punctuation_around_it() -> None:
    assert is_exact(" “The  DOOR is green.” ", ["the door is green"])
    assert is_exact("绿色。", ["绿色"])
    assert is_exact("ＡＢＣ", ["abc"])
    assert not is_exact("the door is green indeed", ["the door is green"])
    assert not is_exact("-5", ["5"]), "a sign is part of a number"
    assert is_exact("yes", []) is None
    assert normalised("!") == "!"


def test_right_answers_are_counted_by_group_in_their_order() -> None:
    answers = [
        EvaluatedAnswer(group=group, expect=expect, answers={"a": judged(text, expect)})
        for group, expect, text in (
            ("two", ["x"], "X."),
            ("one", ["y"], "it is y"),
            ("two", ["z"], "no"),
            ("one", [], "?"),
        )
    ]
    assert [(one.group, one.num_questions, one.contained, one.exact) for one in scores_by_group(answers, "a")] == [
        ("two", 2, 1, 1), ("one", 1, 1, 0),
    ]  # fmt: skip
    assert score(answers, "a").num_questions == 3, "nothing is expected of the last"
    assert scores_by_group([one.but(group="") for one in answers], "a") == []
