"""What is told of a data set, and of one row of it, by page and command alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lora_backend.config.rules import ConfigView, Facts
from lora_backend.data.data_report import BadRow, DataReport, RowNote, TokenCounts, report_of
from lora_backend.data.rendered_row import Piece, RenderedRow, RenderedRows, rows_of
from lora_backend.i18n import Message, use_language
from lora_backend.terminal import show_styled
from lora_backend.views.data_view import (
    bad_row_table,
    data_document,
    data_findings,
    estimate_message,
    form_message,
    length_bars,
    more_bad_rows,
    rows_message,
    token_figures,
)
from lora_backend.views.row_view import marked_text, row_message, styled_pieces

COUNTS = TokenCounts(
    rows=10, is_estimate=False, tokens=1000, trained_tokens=250, longest=300, cut=2, without_end=2, behind_cut=1,
    max_length=128, truncation="cut_answer", lengths=[7, 1, 2], edges=[64, 128, 320], padded_share=0.25,
)  # fmt: skip
REPORT = DataReport(
    form="sharegpt",
    columns={"messages": "talk"},
    rows=10,
    bad_rows=[BadRow(row=4, line=5, file="d.jsonl", message=Message("`value` is missing."))],
    num_bad_rows=3,
    duplicates=0,
    notes=[
        RowNote(code="behind_cut", count=1, rows=[9]),
        RowNote(code="without_end", count=7, rows=[1, 2, 3, 5, 6, 7, 8]),
        RowNote(code="duplicate", count=2, rows=[6, 7]),
    ],
    sha256="ab",
    counts=COUNTS,
)


def config(**values: Any) -> ConfigView:
    return ConfigView({"model_name": "m", "dataset": "d.jsonl", "max_length": 128, "max_bad_rows": 9, **values})


def test_form_columns_and_rows_are_said_in_both_languages() -> None:
    assert form_message(REPORT).text("en") == "Form: ShareGPT chats (`conversations`); columns: `messages` ← `talk`"
    assert form_message(REPORT.but(columns={}, form="messages")).text("en") == "Form: chats (`messages`)"
    assert form_message(REPORT.but(columns={}, form="of later")).text("en") == "Form: `of later`"
    assert rows_message(REPORT).text("en") == "10 rows, 3 bad rows"
    assert rows_message(REPORT.but(rows=1, num_bad_rows=0, duplicates=1)).text("en") == "1 row, 1 duplicate"
    for message in (form_message(REPORT), rows_message(REPORT), *(figure.name for figure in token_figures(COUNTS))):
        assert message.text("zh") != message.text("en")


def test_figures_say_what_is_trained_and_what_padding_costs() -> None:
    with use_language("en"):
        shown = {figure.name.text(): figure.value for figure in token_figures(COUNTS)}
    assert shown == {"Tokens per epoch": "1,000", "Trained tokens": "250 (25%)", "Longest row": "300", "Padding": "25%"}
    assert estimate_message(COUNTS) is None
    sampled = COUNTS.but(is_estimate=True)
    assert "10 rows" in (estimate_message(sampled) or Message("")).text("en")
    assert [figure.is_estimate for figure in token_figures(sampled)] == [True, True, False, True]


def test_bars_say_which_rows_are_cut() -> None:
    bars = length_bars(COUNTS)
    assert [(bar.above, bar.upto, bar.rows) for bar in bars] == [(0, 64, 7), (64, 128, 1), (128, 320, 2)]
    assert [bar.is_cut for bar in bars] == [False, False, True]


def test_bad_rows_are_a_table_and_the_rest_is_counted() -> None:
    (row,) = bad_row_table(REPORT).rows
    assert [str(cell) for cell in row] == ["d.jsonl", "4", "5", "`value` is missing."]
    assert (more_bad_rows(REPORT) or Message("")).text("en") == "… and 2 more bad rows."
    assert more_bad_rows(REPORT.but(num_bad_rows=1)) is None


def test_findings_name_rows_and_weigh_most_first() -> None:
    found = data_findings(config(), Facts(data_reports={"d.jsonl": REPORT}))
    assert [finding.code for finding in found] == [
        "bad_rows_left_out",
        "rows_behind_cut",
        "rows_without_end",
        "duplicate_rows",
    ]
    bad, found = found[0], found[1:]
    assert bad.message.text("en") == "3 bad rows are left out (rows 4 and 2 more)."
    said = [finding.message.text("en") for finding in found]
    assert "(row 9)" in said[0]
    assert "(rows 1, 2, 3, 5, 6 and 2 more)" in said[1]
    assert "(rows 6, 7)" in said[2]
    assert found[0].fix == {"max_length": 300}
    sampled = REPORT.but(counts=COUNTS.but(is_estimate=True))
    _, first, *_, last = data_findings(config(), Facts(data_reports={"d.jsonl": sampled}))
    assert "(of the 10 rows checked; row 9)" in first.message.text("en")
    assert "rows checked" not in last.message.text("en"), "duplicates are counted over all rows"


def test_nothing_is_said_of_another_cut_and_no_longer_row_is_offered_than_the_model_takes() -> None:
    facts = Facts(data_reports={"d.jsonl": REPORT})
    assert [finding.code for finding in data_findings(config(max_length=256), facts)] == [
        "bad_rows_left_out",
        "duplicate_rows",
    ]
    _, first, *_ = data_findings(config(), Facts(data_reports={"d.jsonl": REPORT}, max_positions=256))
    assert first.fix is None


def test_bad_rows_beyond_what_is_allowed_are_told_with_the_number_to_set() -> None:
    first, *_ = data_findings(config(max_bad_rows=2), Facts(data_reports={"d.jsonl": REPORT}))
    assert first.code == "too_many_bad_rows"
    assert first.fix == {"max_bad_rows": 3}


def test_what_several_sets_teach_is_asked_of_all_together() -> None:
    nothing = REPORT.but(counts=COUNTS.but(behind_cut=10, trained_tokens=0), num_bad_rows=0)
    found = data_findings(config(), Facts(data_reports={"a.jsonl": REPORT, "b.jsonl": nothing}))
    assert "nothing_to_train_on" not in {finding.code for finding in found}
    both = data_findings(config(), Facts(data_reports={"a.jsonl": nothing, "b.jsonl": nothing}))
    assert "nothing_to_train_on" in {finding.code for finding in both}


def test_refused_rows_count_as_bad_ones() -> None:
    refused = REPORT.but(notes=[RowNote(code="refused", count=2, rows=[1, 2], message=Message("No."))])
    facts = Facts(data_reports={"d.jsonl": refused})
    assert [finding.code for finding in data_findings(config(max_bad_rows=5), facts)] == ["bad_rows_left_out", "refused_rows_left_out"]  # fmt: skip
    first, second = data_findings(config(max_bad_rows=4), facts)
    assert (first.code, second.code) == ("bad_rows_left_out", "template_refuses_rows")
    assert second.fix == {"max_bad_rows": 5}


def test_of_several_data_sets_each_row_is_named_with_its_file() -> None:
    found = data_findings(config(), Facts(data_reports={"a.jsonl": REPORT, "b.jsonl": REPORT}))
    assert ["a.jsonl: rows 6, 7" in one.message.text("en") for one in found if one.code == "duplicate_rows"] == [True, False]  # fmt: skip


def test_where_no_row_is_trained_on_that_alone_is_said() -> None:
    nothing = REPORT.but(counts=COUNTS.but(behind_cut=10, trained_tokens=0), notes=REPORT.notes[:2], num_bad_rows=0)
    assert [finding.code for finding in data_findings(config(), Facts(data_reports={"d.jsonl": nothing}))] == [
        "nothing_to_train_on"
    ]


def test_the_document_has_the_promised_keys_and_is_kept_and_read_again() -> None:
    document = data_document(REPORT, data_findings(config(), Facts(data_reports={"d.jsonl": REPORT})), "en")
    promised = {
        "form", "columns", "rows", "bad_rows", "tokens", "trained_tokens", "longest", "cut", "without_end", "behind_cut",
        "duplicates", "is_estimate", "findings",
    }  # fmt: skip
    assert promised <= document.keys()
    assert document["bad_rows"] == [{"file": "d.jsonl", "row": 4, "line": 5, "message": "`value` is missing."}]
    assert json.loads(json.dumps(document)) == document
    alone = data_document(REPORT.but(counts=None), [])
    assert alone["tokens"] is None
    assert alone["rows"] == 10
    assert report_of(json.loads(json.dumps(REPORT.to_json()))) == REPORT


ROW = RenderedRow(
    row=3,
    pieces=[
        Piece(text="<|user|>", is_trained=False, is_special=True),
        Piece(text="how\x1b[2J?", is_trained=False),
        Piece(text="nine", is_trained=True),
        Piece(text="</s>", is_trained=True, is_special=True),
        Piece(text=" gone", is_trained=False, is_cut=True),
    ],
    tokens=9,
    trained_tokens=2,
)


def test_a_row_is_shown_with_and_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    assert row_message(ROW).text("en") == "Row 3: 9 tokens, 2 of them trained on"
    assert marked_text(ROW) == "<|user|>how\x1b[2J?⟦nine</s>⟧~~ gone~~"
    show_styled(styled_pieces(ROW))
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown, "what a row says moves no cursor"
    assert "\x1b[1m\x1b[32mnine\x1b[0m" in shown
    assert "\x1b[36m</s>\x1b[0m" in shown
    assert "\x1b[9m gone\x1b[0m" in shown


def test_rendered_rows_pass_through_a_pipe() -> None:
    rows = RenderedRows(rows=[ROW], count=1)
    assert rows_of(json.loads(json.dumps(rows.to_json()))) == rows
