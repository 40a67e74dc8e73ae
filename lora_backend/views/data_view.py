"""What there is to say of a data set: its form, its figures, its bad rows, how long its rows are, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.config.findings import SEVERITIES, Finding
from lora_backend.config.rules import ConfigView, Facts, data_facts, row_facts, rows_cut
from lora_backend.data.data_report import DataReport, TokenCounts
from lora_backend.i18n import N_, Message, Plural
from lora_backend.views.table import Table

FORMS: Mapping[str, str] = {
    "messages": N_("chats (`messages`)"),
    "sharegpt": N_("ShareGPT chats (`conversations`)"),
    "alpaca": N_("Alpaca (`instruction`, `input`, `output`)"),
    "prompt_completion": N_("`prompt` and `completion`"),
    "question_answer": N_("questions and answers"),
    "text": N_("plain text"),
}
"""Words of `data_format` as people call them."""


@dataclass(frozen=True)
class DataFigure:
    """One number with its name."""

    name: Message
    value: str
    help: Message | None = None
    is_estimate: bool = False


@dataclass(frozen=True)
class LengthBar:
    """Rows whose lengths are in one range of tokens."""

    above: int
    upto: int
    rows: int
    is_cut: bool
    """Whether all of them are longer than `max_length`."""


def data_findings(config: ConfigView, facts: Facts) -> tuple[Finding, ...]:
    """All that a data set has to be told, what weighs most first."""
    found = [
        finding
        for room in (row_facts, rows_cut, data_facts)
        for check in room.CHECKS
        for finding in check(config, facts)
    ]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def form_message(report: DataReport) -> Message:
    """The form that was found, and where its parts come from if not from their own names."""
    form = Message(FORMS.get(report.form, "`{form}`"), {"form": report.form})
    if not report.columns:
        return Message(N_("Form: {form}"), {"form": form})
    names = {f"part_{number}": name for number, pair in enumerate(report.columns.items()) for name in (pair[0],)}
    names |= {f"column_{number}": column for number, column in enumerate(report.columns.values())}
    template = ", ".join(f"`{{part_{number}}}` ← `{{column_{number}}}`" for number in range(len(report.columns)))
    return Message(N_("Form: {form}; columns: {columns}"), {"form": form, "columns": Message(template, names)})


def rows_message(report: DataReport) -> Message:
    """`1,200 rows, 3 bad rows, 2 duplicates`; what there is none of is not said."""
    parts: tuple[tuple[int, str], ...] = (
        (report.rows, Plural("{count} row", "{count} rows")),
        (report.num_bad_rows, Plural("{count} bad row", "{count} bad rows")),
        (report.duplicates, Plural("{count} duplicate", "{count} duplicates")),
    )
    said = [
        Message(words, {"count": f"{number:,}"}) for place, (number, words) in enumerate(parts) if number or not place
    ]
    return Message(
        ", ".join(f"{{part_{n}}}" for n in range(len(said))), {f"part_{n}": one for n, one in enumerate(said)}
    )


def token_figures(counts: TokenCounts) -> tuple[DataFigure, ...]:
    """What one epoch trains on, after the cut."""
    share = counts.trained_tokens / counts.tokens if counts.tokens else 0.0
    about = counts.is_estimate
    return (
        DataFigure(Message(N_("Tokens per epoch")), f"{counts.tokens:,}", is_estimate=about),
        DataFigure(Message(N_("Trained tokens")), f"{counts.trained_tokens:,} ({share:.0%})", Message(N_("Tokens with a label: the answers and what ends them.")), about),
        DataFigure(Message(N_("Longest row")), f"{counts.longest:,}", Message(N_("In tokens, before the cut at `max_length`."))),
        DataFigure(Message(N_("Padding")), f"{counts.padded_share:.0%}", Message(N_("Share of each epoch's tokens that only fill up batches, where these are padded.")), about),
    )  # fmt: skip


def estimate_message(counts: TokenCounts) -> Message | None:
    """That not every row was looked at, where it is so."""
    if not counts.is_estimate:
        return None
    return Message(
        N_("Estimated from {looked_at} rows drawn at random; the log of a run has the exact numbers."),
        {"looked_at": f"{counts.rows:,}"},
    )


def length_bars(counts: TokenCounts) -> tuple[LengthBar, ...]:
    """The histogram: from range to range of tokens, how many rows."""
    above = 0
    bars = []
    for upto, rows in zip(counts.edges, counts.lengths, strict=False):
        bars.append(LengthBar(above, upto, rows, above >= counts.max_length))
        above = upto
    return tuple(bars)


def bad_row_table(report: DataReport) -> Table:
    """The first bad rows: where each stands, and what is wrong with it."""
    heads = (Message(N_("File")), Message(N_("Row")), Message(N_("Line")), Message(N_("What is wrong")))
    rows = tuple((bad.file, bad.row, bad.line, bad.message) for bad in report.bad_rows)
    return Table(heads, rows, tuple("wrong" for _ in rows))


def more_bad_rows(report: DataReport) -> Message | None:
    """How many bad rows the table does not name."""
    left = report.num_bad_rows - len(report.bad_rows)
    if left <= 0:
        return None
    return Message(Plural("… and {count} more bad row.", "… and {count} more bad rows."), {"count": left})


def data_document(report: DataReport, findings: Sequence[Finding], language: str | None = None) -> dict[str, Any]:
    """The JSON document of the command `data`; counts of tokens are null without a model."""
    counts = report.counts
    names = ("tokens", "trained_tokens", "longest", "cut", "without_end", "behind_cut", "is_estimate", "padded_share")
    return {
        "form": report.form,
        "columns": report.columns,
        "rows": report.rows,
        "num_bad_rows": report.num_bad_rows,
        "bad_rows": [
            {"file": bad.file, "row": bad.row, "line": bad.line, "message": bad.message.text(language)}
            for bad in report.bad_rows
        ],
        **{name: None if counts is None else getattr(counts, name) for name in names},
        "duplicates": report.duplicates,
        "sha256": report.sha256,
        "findings": [finding.to_dict(language) for finding in findings],
    }
