"""What an evaluation found: its `result.json`, and the lines of `rows.jsonl` and `answers.jsonl` beside it."""

from __future__ import annotations

import math
from typing import Literal

from lora_backend.typed_json import Count, Document, Number, Part, Sentence

CONFIDENCE = 0.95
"""Of every interval."""
RESAMPLES = 10_000
"""Of every bootstrap."""
MOST_CHANGED = 20
"""Rows that are named among those that got better most, and as many among those that got worse."""
MOST_LETTERS = 200
"""Of a row's text that is kept in the result."""


class Estimate(Part):
    """A figure with its 95 % interval; None where there are too few rows or questions to resample."""

    value: Number
    """Of the rows as they are."""
    low: Number | None = None
    """2.5 % of the resamples lie below."""
    high: Number | None = None
    """2.5 % of the resamples lie above."""


class RowSet(Part):
    """Which rows were measured."""

    path: str
    """The file or folder, absolute; of rows that a run held out those of its data set."""
    sha256: str
    """Of its bytes."""
    is_held_back: bool = False
    """Whether only the rows were measured that the run's `val_size` held out."""
    num_rows: Count
    """That were measured."""
    num_left_out: Count = 0
    """Of which nothing is learned, so that they have no loss."""
    num_bad: Count = 0
    """That could not be read."""
    num_cut: Count = 0
    """Measured as far as `max_length` goes."""


class Score(Part):
    """How many answers of a group are right."""

    group: str = ""
    """Empty: of all groups together."""
    num_questions: Count
    """With something that is expected."""
    contained: Count
    """Answers that contain what is expected, whatever the case."""
    exact: Count
    """Answers that are what is expected, but for case, spaces and punctuation around them."""


class ColumnFigures(Part):
    """What was found of one column."""

    label: str
    """As in the request."""
    adapter: str | None = None
    """Its folder; None: the base model alone."""
    loss: Estimate | None = None
    """Nats a learned token, over all rows; None where no rows were measured, or the loss of one is no number."""
    perplexity: Number | None = None
    """e to the loss; None too where that is too large to be shown."""
    token_accuracy: Estimate | None = None
    """Share of the learned tokens that the model would have chosen itself."""
    num_nan_rows: Count = 0
    """Rows whose loss is no number."""
    loss_change: Estimate | None = None
    """Against the first column, on the same rows; less is better."""
    token_accuracy_change: Estimate | None = None
    """Against the first column; more is better."""
    answers: Score | None = None
    """Of all questions."""
    groups: list[Score] = []
    """Of each group of questions."""
    contained_change: Estimate | None = None
    """Of the share of answers that contain what is expected, against the first column."""
    exact_change: Estimate | None = None
    """The same of the answers that are what is expected."""


class RowChange(Part):
    """A row, and what a column made of its loss."""

    row: Count
    """Its number in the data set, from 1."""
    file: str = ""
    """Which data set, where rows of several were measured."""
    prompt: str = ""
    """The beginning of what stands before the answer."""
    text: str = ""
    """The beginning of what is learned of it."""
    before: Number
    """Nats a learned token, by the first column."""
    after: Number
    """By this one."""


class ColumnChanges(Part):
    """The rows that an adapter changed most."""

    label: str
    """The column's."""
    better: list[RowChange] = []
    """The most first."""
    worse: list[RowChange] = []
    """The most first."""


class EvaluateResult(Document):
    """`result.json` of an evaluation. Losses of all rows are in `rows.jsonl`, all answers in `answers.jsonl`."""

    base_model: str
    """As in the request."""
    of_run: str | None = None
    """Id of the run whose adapter was measured."""
    precision: str = ""
    """In which the models computed."""
    rows: RowSet | None = None
    """None where no rows were measured."""
    num_tokens: Count = 0
    """Learned ones, of all rows."""
    columns: list[ColumnFigures] = []
    """The first is what the others are held against."""
    changes: list[ColumnChanges] = []
    """Of every column but the first."""
    num_questions: Count = 0
    """That were answered, those without an `expect` too."""
    num_prompts: Count = 0
    """That were answered."""
    is_completion: bool = False
    """The model has no chat template: questions and prompts were gone on from."""
    notes: list[Sentence] = []
    """What is to be known with the figures."""

    def column(self, label: str) -> ColumnFigures | None:
        """By its label."""
        return next((column for column in self.columns if column.label == label), None)


class EvaluatedRow(Document):
    """A line of `rows.jsonl`: a row's figures by every column."""

    row: Count
    """Its number in the data set, from 1."""
    file: str = ""
    """Which data set, where rows of several were measured."""
    num_tokens: Count = 0
    """Learned ones."""
    losses: dict[str, Number | None] = {}
    """Column → nats a learned token; None where it is no number."""
    right_tokens: dict[str, Count] = {}
    """Column → learned tokens that it would have chosen itself."""


class ColumnAnswer(Part):
    """What one column answered."""

    text: str
    """Without special tokens and spaces around it."""
    contained: bool | None = None
    """Whether it contains what is expected; None where nothing is."""
    exact: bool | None = None
    """Whether it is what is expected."""


class EvaluatedAnswer(Document):
    """A line of `answers.jsonl` of an evaluation: a question or a prompt, answered by every column."""

    of: Literal["question", "prompt"] = "question"
    """Which file it is from."""
    prompt: str = ""
    """The last message of the chat that was asked."""
    group: str = ""
    """Questions of one group are counted together; empty: of none."""
    expect: list[str] = []
    """An answer is right when it is, or contains, one of these; empty: nothing is expected."""
    answers: dict[str, ColumnAnswer] = {}
    """By the columns' labels."""


def finite(value: float) -> float | None:
    """A number that a document can hold; None for all others."""
    return value if math.isfinite(value) and abs(value) < 2**53 else None
