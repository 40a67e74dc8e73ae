"""How a run is doing and what came of it, as figures."""

from __future__ import annotations

import numpy as np
import pytest

from lora_backend.runs.record.curves import Column
from lora_backend.runs.record.documents import Answer, RunRecord
from lora_backend.runs.record.states import RunState
from lora_backend.verification.rank_documents import LayerRecord, RankReport
from lora_backend.views.answers_view import SHORT, answers_table, chosen, counts
from lora_backend.views.result_view import Fact, answer_facts, going_facts, ranks_message, scores
from lora_backend.views.run_view import tab_title


def columns(**figures: list[float]) -> dict[str, Column]:
    length = max(map(len, figures.values()))
    found = {name: np.full(length, np.nan) for name in ("step", "loss", "eval_loss", "learning_rate", "time")}
    for name, values in figures.items():
        found[name] = np.array(values, dtype=np.float64)
    return found


def shown(facts: list[Fact]) -> dict[str, tuple[str, str | None]]:
    return {
        fact.head.text("en"): (fact.value.text("en"), fact.note.text("en") if fact.note else None) for fact in facts
    }


NAN = float("nan")


def test_a_run_that_goes_on_shows_its_loss_against_the_first_and_nothing_that_it_does_not_measure() -> None:
    found = going_facts(RunState("running"), columns(step=[1, 2, 3], loss=[2.5, 1.25, 0.5], eval_loss=[NAN, 1.5, 2.0]))
    assert shown(found) == {
        "Loss": ("0.5", "from 2.5 at the start"),
        "Evaluation loss": ("2", "best 1.5, at step 2"),
    }
    assert found[0].curve == (2.5, 1.25, 0.5)
    assert going_facts(RunState("starting"), {}) == []


def answer(group: str, base: bool | None, adapter: bool | None, text: str = "x") -> Answer:
    return Answer(question="?", group=group, base_correct=base, adapter_correct=adapter, adapter_answer=text)


def test_right_answers_are_counted_by_group_and_what_expects_nothing_counts_nowhere() -> None:
    rows = [answer("english", False, True), answer("english", True, True), answer("mine", False, False), answer("", None, None)]  # fmt: skip
    assert [(one.group, one.base, one.adapter, one.count) for one in scores(rows)] == [("english", 1, 2, 2), ("mine", 0, 0, 1)]  # fmt: skip
    assert shown(answer_facts(rows)) == {
        "English: right answers": ("2 / 2", "base model 1 / 2"),
        "mine: right answers": ("0 / 1", "base model 0 / 1"),
    }
    assert counts(rows) == {"all": 4, "wrong": 1, "right": 2}
    assert chosen(rows, "wrong") == rows[2:3]
    assert chosen(rows, "all", "english") == rows[:2]
    many = [answer(str(number), False, True) for number in range(9)]
    assert shown(answer_facts(many)) == {"Right answers": ("9 / 9", "base model 0 / 9")}


def test_a_long_answer_is_cut_until_it_is_asked_for_whole() -> None:
    row = answer("", False, True, "word " * 100)
    cut = str(answers_table([row]).rows[0][2])
    assert cut.startswith("✓ word")
    assert cut.endswith(" …")
    assert len(cut) < SHORT + 10
    assert answers_table([row], whole=True).rows[0][2] == "✓ " + row.adapter_answer
    assert answers_table([row, answer("", True, False)]).fills == ("ok", "wrong")


@pytest.mark.parametrize(
    ("ranks", "said"),
    [([16] * 210, "all 210 layers have rank 16"), ([8], "1 layer, rank 8"), ([4, 8, 8], "3 layers, ranks 4 to 8")],
)
def test_ranks_are_said_in_a_line(ranks: list[int], said: str) -> None:
    layers = [
        LayerRecord(name=str(number), block=0, module="q", expected_r=4, config_r=4, a_r=rank, b_r=rank, state="ok")
        for number, rank in enumerate(ranks)
    ]
    report = RankReport(is_consistent=True, status="ok", expected_r=4, mismatched_layers=[], warnings=[], layers=layers)
    assert ranks_message(report).text("en") == said


def test_the_browsers_tab_says_how_far_a_run_is() -> None:
    record = RunRecord(name="mine", config={})
    assert tab_title(record, RunState("running", step=21, total_steps=50)) == "42% · mine"
    assert tab_title(record, RunState("running", step=999, total_steps=1000)) == "99% · mine"
    answering = RunState("running", stage="answering", step=50, total_steps=50, fraction=0.6)
    assert tab_title(record, answering) == "60% · mine"
    assert tab_title(record, RunState("finished", step=50, total_steps=50)) == "mine"
