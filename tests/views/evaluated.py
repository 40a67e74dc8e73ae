"""An evaluation that went well, in figures."""

from __future__ import annotations

from lora_backend.runs.record.evaluation_documents import ColumnFigures, Estimate, EvaluateResult, RowSet, Score


def column(label: str, loss: float, contained: int, change: float | None = None) -> ColumnFigures:
    return ColumnFigures(
        label=label,
        loss=Estimate(value=loss, low=loss - 0.1, high=loss + 0.1),
        perplexity=10.0,
        token_accuracy=Estimate(value=0.5),
        loss_change=None if change is None else Estimate(value=change, low=change - 0.04, high=change + 0.06),
        answers=Score(num_questions=20, contained=contained, exact=1),
        groups=[Score(group="g", num_questions=20, contained=contained, exact=1)],
    )


RESULT = EvaluateResult(
    base_model="base",
    rows=RowSet(path="/data/rows.jsonl", sha256="0", num_rows=1200, num_left_out=1, num_bad=2, num_cut=3),
    num_tokens=34_000,
    columns=[column("base", 2.31, 2), column("mine", 0.45, 18, -1.86)],
    num_questions=20,
)
