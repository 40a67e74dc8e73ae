"""What the rules over rows share: how rows are named in a sentence, and the counts of their examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_backend.config.rules.rule_input import Facts
from lora_backend.data.data_report import BadRow, DataReport, NoteCode, RowNote, TokenCounts
from lora_backend.i18n import N_, Message

MOST_NAMED = 5
"""Rows whose numbers stand in a sentence."""


def counted(code: NoteCode | None = None, num_bad_rows: int = 0, rows_left: int = 16, **counts: Any) -> Facts:
    """What is known of a set of sixteen rows in an example: `code` is said of two of them, and some more are bad."""
    known: dict[str, Any] = {
        "rows": 16, "is_estimate": False, "tokens": 4000, "trained_tokens": 2000, "longest": 100, "cut": 0, "without_end": 0,
        "behind_cut": 0, "max_length": 1024, "truncation": "cut_answer", "lengths": [16], "edges": [100], "padded_share": 0.1, "trained_rows": 16,

    }  # fmt: skip
    note = RowNote(
        code=code or "cut",
        count=2,
        rows=[3, 8],
        detail="<|im_end|>",
        message=Message("Roles must alternate."),
        remedy=Message("Fix the template."),
    )
    bad = [BadRow(row=row, line=row, file="d.jsonl", message=Message("–")) for row in range(1, num_bad_rows + 1)]
    report = DataReport(
        form="messages", rows=rows_left, bad_rows=bad, num_bad_rows=num_bad_rows, duplicates=0, sha256="0", notes=[note] if code else [],
        counts=TokenCounts(**(known | counts)),
    )  # fmt: skip
    return Facts(data_reports={"d.jsonl": report})


def values_of(note: RowNote, counts: TokenCounts | None, file: str | None) -> dict[str, Any]:
    """Values for the sentence of a note."""
    of_tokens = note.code in ("cut", "without_end", "behind_cut", "lost_answer", "refused")
    looked_at = counts.rows if counts is not None and counts.is_estimate and of_tokens else None
    return {
        "count": note.count,
        "where": where(note.rows, note.count, looked_at=looked_at, file=file),
        "mark": note.detail or "–",
        "reason": note.message or Message("–"),
    }


def where(rows: Sequence[int], count: int, *, looked_at: int | None = None, file: str | None = None) -> Message:
    """`row 3`, `rows 3, 17, 20`, `rows 3, 17, 20, 24, 31 and 95 more`; of which file, and of a sample that it is one."""
    named = rows[:MOST_NAMED]
    values: dict[str, Any] = {"count": count, "rows": ", ".join(map(str, named)), "more": count - len(named)}
    template = N_("row {rows}") if count == 1 else N_("rows {rows}")
    said = Message(template if count <= len(named) else N_("rows {rows} and {more} more"), values)
    if file is not None:
        said = Message(N_("{file}: {where}"), {"file": file, "where": said})
    if looked_at is None:
        return said
    return Message(N_("of the {looked_at} rows checked; {where}"), {"looked_at": f"{looked_at:,}", "where": said})
