"""What is told of a data set before any tokenizer: its form, its bad rows, and rows that are there twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport
from lora_backend.data.example_file import ExampleFile, open_examples
from lora_backend.data.held_back import held_back
from lora_backend.installation import Installation


def open_asked(
    question: DataQuestion, installation: Installation, report: Callable[[float], None] = lambda _: None
) -> ExampleFile:
    """The rows that a question is about, however many of them are bad. Raises `DataError` where none can be read."""
    return open_examples(
        Path(question.path),
        installation.cache / "rows",
        question.data_format,
        question.data_columns or None,
        None,
        report,
        split=question.split,
    )


def row_report(question: DataQuestion, examples: ExampleFile) -> DataReport:
    """All but the counts of tokens."""
    notes = list(examples.notes)
    if question.val_size and len(examples) > 1:
        both = examples.in_both(held_back(len(examples), question.val_size, question.seed))
        notes += [both] if both is not None else []
    return DataReport(
        form=examples.found_form.form,
        columns=dict(examples.found_form.renamed),
        rows=len(examples),
        bad_rows=examples.bad_rows,
        num_bad_rows=examples.num_bad_rows,
        duplicates=examples.num_duplicates,
        notes=notes,
        sha256=examples.sha256,
    )
