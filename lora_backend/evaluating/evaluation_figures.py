"""From what every column made of the rows and questions to the figures of the result."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lora_backend.atomic import write_atomic
from lora_backend.evaluating.asked_of_columns import Asked
from lora_backend.evaluating.bootstrap import Ratios
from lora_backend.evaluating.held_out import RowLosses
from lora_backend.evaluating.held_out_rows import HeldOutRow
from lora_backend.evaluating.right_answers import judged, score, scores_by_group
from lora_backend.i18n import N_, Message, Plural
from lora_backend.runs.record.evaluation_documents import (
    MOST_CHANGED,
    ColumnAnswer,
    ColumnChanges,
    ColumnFigures,
    EvaluatedAnswer,
    EvaluatedRow,
    EvaluateResult,
    RowChange,
    finite,
)
from lora_backend.runs.record.job_documents import Column, EvaluateRequest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.typed_json import Document

Report = Callable[[float], None]


@dataclass
class Found:
    """What one column made of what it was asked."""

    losses: RowLosses | None = None
    answers: list[str] = field(default_factory=list)
    """To the questions."""
    replies: list[str] = field(default_factory=list)
    """To the prompts."""


@dataclass(frozen=True)
class Outcome:
    """All that an evaluation writes."""

    result: EvaluateResult
    rows: list[EvaluatedRow]
    answers: list[EvaluatedAnswer]

    def write(self, folder: RunStore) -> None:
        """The lines first, and the result last."""
        for path, lines in ((folder.path / "rows.jsonl", self.rows), (folder.answers_jsonl, self.answers)):
            if lines:
                write_atomic(path, "".join(_line(line) for line in lines))
        folder.write_result(self.result)


def outcome_of(
    request: EvaluateRequest,
    precision: str,
    asked: Asked,
    found: Sequence[Found],
    *,
    has_template: bool,
    report: Report,
) -> Outcome:
    """The figures of every column, held against the first. `report` hears how far the resampling is."""
    columns = [ColumnFigures(label=column.label, adapter=column.adapter) for column in request.columns]
    losses = [one.losses for one in found if one.losses is not None]
    answers = _answers(request.columns, asked, found)
    if losses:
        _add_losses(columns, losses, report)
    of_questions = [answer for answer in answers if answer.of == "question"]
    _add_scores(columns, [answer for answer in of_questions if answer.expect], report)
    has_asked = bool(of_questions) or bool(asked.prompts)
    result = EvaluateResult(
        base_model=request.base_model,
        of_run=request.of_run,
        precision=precision,
        rows=asked.row_set,
        num_tokens=int(losses[0].num_tokens.sum()) if losses else 0,
        columns=columns,
        changes=_changes(request.columns, asked.rows.rows, losses) if losses else [],
        num_questions=len(of_questions),
        num_prompts=len(asked.prompts),
        is_completion=has_asked and not has_template,
        notes=list(_notes(columns, of_questions, is_completion=has_asked and not has_template)),
    )
    return Outcome(result, list(_lines(request.columns, asked.rows.rows, losses)) if losses else [], answers)


def _add_losses(columns: Sequence[ColumnFigures], losses: Sequence[RowLosses], report: Report) -> None:
    """Loss and token accuracy of every column. One whose loss of a row is no number has none, and is not held against."""
    tokens = losses[0].num_tokens.astype(np.float64)
    for column, one in zip(columns, losses, strict=True):
        column.num_nan_rows = int((~np.isfinite(one.nats)).sum())
    whole = [place for place, column in enumerate(columns) if not column.num_nan_rows]
    if not whole:
        return
    figures = (
        (np.stack([losses[place].nats for place in whole]), "loss"),
        (np.stack([losses[place].num_right.astype(np.float64) for place in whole]), "token_accuracy"),
    )
    for above, name in figures:
        values, changes = Ratios(above, tokens).estimates(report)
        for place, value, change in zip(whole, values, changes, strict=True):
            setattr(columns[place], name, value)
            if place and 0 in whole:
                setattr(columns[place], f"{name}_change", change)
    for place in whole:
        loss = columns[place].loss
        columns[place].perplexity = None if loss is None or loss.value > 36 else finite(math.exp(loss.value))


def _add_scores(columns: Sequence[ColumnFigures], expecting: Sequence[EvaluatedAnswer], report: Report) -> None:
    """Right answers of every column, of those questions that expect something."""
    if not expecting:
        return
    ones = np.ones(len(expecting))
    for name in ("contained", "exact"):
        right = [[bool(getattr(one.answers[column.label], name)) for one in expecting] for column in columns]
        _, changes = Ratios(np.array(right, np.float64), ones).estimates(report)
        for column, change in zip(columns[1:], changes[1:], strict=True):
            setattr(column, f"{name}_change", change)
    for column in columns:
        column.answers = score(expecting, column.label)
        column.groups = scores_by_group(expecting, column.label)


def _answers(columns: Sequence[Column], asked: Asked, found: Sequence[Found]) -> list[EvaluatedAnswer]:
    labels = [column.label for column in columns]
    answers = [
        EvaluatedAnswer(
            of="question",
            prompt=_last(question),
            group=question["group"],
            expect=question["expect"],
            answers={
                label: judged(one.answers[place], question["expect"]) for label, one in zip(labels, found, strict=True)
            },
        )
        for place, question in enumerate(asked.questions)
    ]
    return answers + [
        EvaluatedAnswer(
            of="prompt",
            prompt=_last(prompt),
            answers={label: ColumnAnswer(text=one.replies[place]) for label, one in zip(labels, found, strict=True)},
        )
        for place, prompt in enumerate(asked.prompts)
    ]


def _changes(columns: Sequence[Column], rows: Sequence[HeldOutRow], losses: Sequence[RowLosses]) -> list[ColumnChanges]:
    """The rows that every column but the first changed most, by their loss a token."""
    before = losses[0].nats / losses[0].num_tokens
    return [
        _most_changed(column.label, rows, before, one.nats / one.num_tokens)
        for column, one in zip(columns[1:], losses[1:], strict=True)
    ]


def _most_changed(label: str, rows: Sequence[HeldOutRow], before: Any, after: Any) -> ColumnChanges:
    change = np.where(np.isfinite(before) & np.isfinite(after), after - before, 0.0)
    order = np.argsort(change, kind="stable")

    def row_change(place: int) -> RowChange:
        row = rows[place]
        prompt, text = row.shortly()
        return RowChange(
            row=row.number,
            file=row.asked.path,
            prompt=prompt,
            text=text,
            before=float(before[place]),
            after=float(after[place]),
        )

    return ColumnChanges(
        label=label,
        better=[row_change(place) for place in order[:MOST_CHANGED].tolist() if change[place] < 0],
        worse=[row_change(place) for place in order[::-1][:MOST_CHANGED].tolist() if change[place] > 0],
    )


def _lines(
    columns: Sequence[Column], rows: Sequence[HeldOutRow], losses: Sequence[RowLosses]
) -> Iterator[EvaluatedRow]:
    for place, row in enumerate(rows):
        num_tokens = int(losses[0].num_tokens[place])
        by_label = [(column.label, one) for column, one in zip(columns, losses, strict=True)]
        yield EvaluatedRow(
            row=row.number,
            file=row.asked.path,
            num_tokens=num_tokens,
            losses={label: finite(float(one.nats[place]) / num_tokens) for label, one in by_label},
            right_tokens={label: int(one.num_right[place]) for label, one in by_label},
        )


def _notes(
    columns: Sequence[ColumnFigures], questions: Sequence[EvaluatedAnswer], *, is_completion: bool
) -> Iterator[Message]:
    if is_completion:
        yield Message(
            N_("The base model has no chat template, so questions and prompts are continued as text, not answered.")
        )
    for column in columns:
        if column.num_nan_rows:
            said = Plural(
                "{column}: the loss of {count} row is not a number, so there is no loss over all rows.",
                "{column}: the loss of {count} rows is not a number, so there is no loss over all rows.",
            )
            yield Message(said, {"column": column.label, "count": column.num_nan_rows})
    without = sum(not answer.expect for answer in questions)
    if without:
        said = Plural(
            "{count} question has no `expect`, so its answers are shown and not counted.",
            "{count} questions have no `expect`, so their answers are shown and not counted.",
        )
        yield Message(said, {"count": without})


def _last(question: dict[str, Any]) -> str:
    return str(question["messages"][-1]["content"])


def _line(document: Document) -> str:
    return json.dumps(document.to_json(), ensure_ascii=False, allow_nan=False) + "\n"
