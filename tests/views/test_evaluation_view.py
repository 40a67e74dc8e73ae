"""An evaluation in words and tables: the same for a terminal and a page."""

from __future__ import annotations

from lora_backend.i18n import use_language
from lora_backend.runs.record.evaluation_documents import (
    ColumnAnswer,
    ColumnFigures,
    EvaluatedAnswer,
    EvaluateResult,
    RowChange,
)
from lora_backend.views.evaluation_view import (
    answers_csv,
    changed_table,
    columns_table,
    evaluation_lines,
    groups_table,
    headline,
    rows_message,
)
from tests.views.evaluated import RESULT, column


def test_the_headline_has_loss_and_right_answers_before_and_after() -> None:
    with use_language("en"):
        assert [message.text() for message in headline(RESULT)] == [
            "Loss 2.31 → 0.45 (−1.86, 95% interval −1.9 to −1.8)",
            "Right answers 2 → 18 of 20 questions",
        ]
        two = RESULT.but(columns=[*RESULT.columns, column("worse", 3.0, 0, 0.69)])
        assert [message.text() for message in headline(two)][2] == (
            "worse: Loss 2.31 → 3 (+0.69, 95% interval +0.65 to +0.75)"
        )
        assert headline(RESULT.but(columns=RESULT.columns[:1]))[0].text() == "Loss 2.31"
        assert headline(RESULT.but(columns=[])) == []


def test_the_rows_say_what_was_left_out() -> None:
    message = rows_message(RESULT)
    assert message is not None
    with use_language("en"):
        assert message.text() == (
            "/data/rows.jsonl: 1,200 rows, 34,000 learned tokens, 1 row left out, because nothing of it is trained on,"
            " 2 bad rows left out, 3 rows cut at `max_length`."
        )
    assert rows_message(EvaluateResult(base_model="b")) is None


def test_a_row_is_coloured_only_where_the_interval_leaves_no_doubt() -> None:
    doubt = column("doubt", 2.3, 2, -0.05)
    table = columns_table(RESULT.but(columns=[*RESULT.columns, doubt, column("bad", 3, 2, 0.7)]))
    assert table.fills == ("", "ok", "", "wrong")
    with use_language("en"):
        head, base, mine, *_ = table.lines()
    assert head == ["Model", "Loss", "Change", "Perplexity", "Right tokens", "Contains the answer", "Exact answer"]
    assert base == ["base", "2.31 (2.21 … 2.41)", "–", "10", "50.0%", "2 / 20", "1 / 20"]
    assert mine[2] == "−1.86 (−1.9 … −1.8)"


def test_a_figure_that_nobody_has_has_no_column() -> None:
    with use_language("en"):
        head, *_ = columns_table(EvaluateResult(base_model="b", columns=[ColumnFigures(label="b")])).lines()
    assert head == ["Model"]


def test_groups_stand_side_by_side() -> None:
    table = groups_table(RESULT)
    assert table is not None
    with use_language("en"):
        assert list(table.lines()) == [["Group", "base", "mine"], ["g", "2 / 20", "18 / 20"]]
    assert groups_table(EvaluateResult(base_model="b")) is None


def test_a_changed_row_has_number_losses_and_text() -> None:
    with use_language("en"):
        _, line = changed_table([RowChange(row=7, before=2, after=0.5, prompt="q", text="a")]).lines()
    assert line == ["7", "2", "0.5", "−1.5", "q", "a"]


def test_a_terminal_shows_prompts_with_their_answers() -> None:
    answers = [EvaluatedAnswer(of="prompt", prompt="why", answers={"base": ColumnAnswer(text="so")})]
    with use_language("en"):
        assert list(evaluation_lines(RESULT, answers))[-2:] == ["\n> why", "base: so"]


def test_answers_as_csv_run_nothing() -> None:
    answers = [
        EvaluatedAnswer(prompt="=1+1", group="g", expect=["a", "b"], answers={"base": ColumnAnswer(text="@x, y")})
    ]
    lines = answers_csv(answers, ["base", "mine"]).splitlines()
    assert lines == ["of,group,prompt,expect,base,mine", "question,g,'=1+1,a | b,\"'@x, y\","]
