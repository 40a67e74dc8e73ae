"""What there is to say of an evaluation: how the loss went, right answers, the rows that changed most, answers side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence

from lora_backend.escaping import csv_cell
from lora_backend.formats import number
from lora_backend.i18n import N_, Message, Plural
from lora_backend.runs.record.evaluation_documents import (
    ColumnFigures,
    Estimate,
    EvaluatedAnswer,
    EvaluateResult,
    RowChange,
    Score,
)
from lora_backend.views.table import Cell, Fill, Table

PLAIN: Fill = ""
MOST_LINES = 20
"""Prompts with their answers in a terminal."""


def headline(result: EvaluateResult) -> list[Message]:
    """The figures that matter, a sentence each: the loss before and after, and the right answers, of every adapter."""
    if not result.columns:
        return []
    first, others = result.columns[0], result.columns[1:]
    said = [message for column in others for message in _column_headline(first, column, is_named=len(others) > 1)]
    return said if others else [*_alone(first)]


def rows_message(result: EvaluateResult) -> Message | None:
    """Which rows were measured, with what was left out; None where none were."""
    rows = result.rows
    if rows is None:
        return None
    parts = [
        Message(Plural("{count} row", "{count} rows"), {"count": f"{rows.num_rows:,}"}),
        Message(Plural("{count} learned token", "{count} learned tokens"), {"count": f"{result.num_tokens:,}"}),
    ]
    for count, words in (
        (rows.num_left_out, Plural("{count} row left out, because nothing of it is trained on", "{count} rows left out, because nothing of them is trained on")),
        (rows.num_bad, Plural("{count} bad row left out", "{count} bad rows left out")),
        (rows.num_cut, Plural("{count} row cut at `max_length`", "{count} rows cut at `max_length`")),
    ):  # fmt: skip
        if count:
            parts.append(Message(words, {"count": f"{count:,}"}))
    template = ", ".join(f"{{part_{place}}}" for place in range(len(parts)))
    figures = Message(template, {f"part_{place}": part for place, part in enumerate(parts)})
    said = N_("{path}, rows held out of training: {figures}.") if rows.is_held_back else N_("{path}: {figures}.")
    return Message(said, {"path": rows.path, "figures": figures})


def columns_table(result: EvaluateResult) -> Table:
    """A row a column of the evaluation: what was measured of it."""
    shown = [figure for figure in FIGURES if any(figure[1](column) is not None for column in result.columns)]
    heads = (Message(N_("Model")), *(Message(head) for head, _ in shown))
    rows = tuple((column.label, *(cell(column) for _, cell in shown)) for column in result.columns)
    return Table(heads, rows, tuple(_fill(column) for column in result.columns))


def groups_table(result: EvaluateResult) -> Table | None:
    """Right answers by group, a column a model; None where no question has a group."""
    if not any(column.groups for column in result.columns):
        return None
    groups = [score.group for score in result.columns[0].groups]
    scores = [{score.group: score for score in column.groups} for column in result.columns]
    heads = (Message(N_("Group")), *(Message("{label}", {"label": column.label}) for column in result.columns))
    rows = tuple((group or "–", *(right(found.get(group)) for found in scores)) for group in groups)
    return Table(heads, rows, (PLAIN,) * len(rows))


def changed_table(changes: Sequence[RowChange]) -> Table:
    """Rows whose loss changed most: before, after, and the beginning of the row."""
    heads = tuple(map(Message, (N_("Row"), N_("Before"), N_("After"), N_("Change"), N_("Prompt"), N_("Answer"))))
    rows = tuple(
        (one.row, number(one.before), number(one.after), signed(one.after - one.before), one.prompt, one.text)
        for one in changes
    )
    return Table(heads, rows, (PLAIN,) * len(rows))


def answers_csv(answers: Sequence[EvaluatedAnswer], labels: Sequence[str]) -> str:
    """All answers as CSV; what a spreadsheet would run as a formula is text."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(map(csv_cell, ("of", "group", "prompt", "expect", *labels)))
    for one in answers:
        texts = (one.answers[label].text if label in one.answers else "" for label in labels)
        writer.writerow(map(csv_cell, (one.of, one.group, one.prompt, " | ".join(one.expect), *texts)))
    return text.getvalue()


def evaluation_lines(result: EvaluateResult, answers: Sequence[EvaluatedAnswer] = ()) -> Iterator[str]:
    """The whole of it for a terminal, with what was answered to the first prompts."""
    for message in (*headline(result), rows_message(result)):
        if message is not None:
            yield message.text()
    groups = groups_table(result)
    if result.rows is not None or result.num_questions:
        yield columns_table(result).text(1)
    if groups is not None:
        yield groups.text(1)
    for one in [answer for answer in answers if answer.of == "prompt"][:MOST_LINES]:
        yield f"\n> {one.prompt}"
        yield from (f"{label}: {answer.text}" for label, answer in one.answers.items())
    for note in result.notes:
        yield note.text()


def right(score: Score | None) -> str | None:
    """`12 / 20`: answers that contain what is expected."""
    return None if score is None else f"{score.contained} / {score.num_questions}"


def signed(value: float) -> str:
    """A change with its sign."""
    return number(value) if value == 0 else f"{'+' if value > 0 else '−'}{number(abs(value))}"


def percent(value: float) -> str:
    """A share of 1."""
    return f"{100 * value:.1f}%"


def _column_headline(first: ColumnFigures, column: ColumnFigures, *, is_named: bool) -> Iterator[Message]:
    for message in (_loss_headline(first, column), _answers_headline(first, column)):
        if message is not None and is_named:
            yield Message("{column}: {said}", {"column": column.label, "said": message})
        elif message is not None:
            yield message


def _loss_headline(first: ColumnFigures, column: ColumnFigures) -> Message | None:
    if first.loss is None or column.loss is None:
        return None
    values = {"before": number(first.loss.value), "after": number(column.loss.value)}
    change = column.loss_change
    if change is None or change.low is None or change.high is None:
        return Message(N_("Loss {before} → {after}"), values)
    said = N_("Loss {before} → {after} ({change}, 95% interval {low} to {high})")
    return Message(said, values | {"change": signed(change.value), "low": signed(change.low), "high": signed(change.high)})  # fmt: skip


def _answers_headline(first: ColumnFigures, column: ColumnFigures) -> Message | None:
    before, after = first.answers, column.answers
    if before is None or after is None:
        return None
    values = {"before": before.contained, "after": after.contained, "count": after.num_questions}
    return Message(
        Plural(
            "Right answers {before} → {after} of {count} question",
            "Right answers {before} → {after} of {count} questions",
        ),
        values,
    )


def _alone(column: ColumnFigures) -> Iterator[Message]:
    if column.loss is not None:
        yield Message(N_("Loss {loss}"), {"loss": number(column.loss.value)})


def _with_interval(estimate: Estimate | None, show: Callable[[float], str]) -> str | None:
    if estimate is None:
        return None
    if estimate.low is None or estimate.high is None:
        return show(estimate.value)
    return f"{show(estimate.value)} ({show(estimate.low)} … {show(estimate.high)})"


def _score(column: ColumnFigures, name: str) -> str | None:
    return None if column.answers is None else f"{getattr(column.answers, name)} / {column.answers.num_questions}"


FIGURES: tuple[tuple[str, Callable[[ColumnFigures], Cell]], ...] = (
    (N_("Loss"), lambda one: _with_interval(one.loss, number)),
    (N_("Change"), lambda one: _with_interval(one.loss_change, signed)),
    (N_("Perplexity"), lambda one: None if one.perplexity is None else number(one.perplexity)),
    (N_("Right tokens"), lambda one: _with_interval(one.token_accuracy, percent)),
    (N_("Contains the answer"), lambda one: _score(one, "contained")),
    (N_("Exact answer"), lambda one: _score(one, "exact")),
)
"""Head and cell; intervals are of 95 %."""


def _fill(column: ColumnFigures) -> Fill:
    """Green or red only where the interval leaves no doubt."""
    change = column.loss_change
    if change is None or change.low is None or change.high is None or change.low <= 0 <= change.high:
        return ""
    return "ok" if change.high < 0 else "wrong"
