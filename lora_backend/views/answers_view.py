"""A run's questions with the answers of base model and adapter, as rows of a table that shows a part of them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from lora_backend.i18n import N_, Message
from lora_backend.runs.record.documents import Answer
from lora_backend.views.table import Fill, Table

Shown = Literal["all", "wrong", "right"]
SHOWN: Mapping[Shown, str] = {"all": N_("All"), "wrong": N_("Wrong"), "right": N_("Right")}
"""Which answers, by what the adapter's is."""
SHORT = 120
"""Characters of a text until it is asked for whole."""
PER_PAGE = 20
MARKS = {True: "✓ ", False: "✗ ", None: ""}


def counts(answers: Sequence[Answer]) -> dict[Shown, int]:
    """How many there are of each."""
    return {
        "all": len(answers),
        "wrong": sum(row.adapter_correct is False for row in answers),
        "right": sum(row.adapter_correct is True for row in answers),
    }


def chosen(answers: Sequence[Answer], shown: Shown, group: str | None = None) -> list[Answer]:
    """Those of one kind, and of one group where one is named."""
    wanted = {"all": (True, False, None), "wrong": (False,), "right": (True,)}[shown]
    return [row for row in answers if row.adapter_correct in wanted and group in (None, row.group)]


def answers_table(answers: Sequence[Answer], *, whole: bool = False) -> Table:
    """A row a question: green where the adapter is right, red where it is wrong; a sign says it too."""
    heads = tuple(map(Message, (N_("Question"), N_("Base model"), N_("With the adapter"))))
    rows = tuple(
        (
            _cut(row.question, whole=whole),
            MARKS[row.base_correct] + _cut(row.base_answer, whole=whole),
            MARKS[row.adapter_correct] + _cut(row.adapter_answer, whole=whole),
        )
        for row in answers
    )
    fills: dict[bool | None, Fill] = {True: "ok", False: "wrong", None: ""}
    return Table(heads, rows, tuple(fills[row.adapter_correct] for row in answers))


def _cut(text: str, *, whole: bool) -> str:
    short = text if whole else " ".join(text.split())
    if not whole and len(short) > SHORT:
        return f"{short[:SHORT].rstrip()} …"
    return short or "–"
