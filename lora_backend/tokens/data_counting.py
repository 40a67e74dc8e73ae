"""Count what a model learns of a data set: its rows one after another, labelled as they are trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport, NoteCode, RowNote
from lora_backend.data.example_file import ExampleFile
from lora_backend.data.examples import Chat, Example
from lora_backend.data.held_back import left_over
from lora_backend.data.kept_reports import find_report, keep_report
from lora_backend.data.row_report import open_asked, row_report
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.modeling.load import load_tokenizer
from lora_backend.tokens.end_of_turn import EndOfTurn, end_of_turn, stops_of
from lora_backend.tokens.labels import Labeller, LabelRules
from lora_backend.tokens.token_census import TokenCensus

COUNTED_WHOLE = 100_000
"""Rows up to which all are counted; of a larger set so many are drawn."""
AT_ONCE = 256
"""Rows that are labelled together."""
READ_SHARE = 0.3
"""Of the time, for the first look at the rows."""
TELL_EVERY_S = 0.2
Report = Callable[[Message, float], None]
Places = np.ndarray[tuple[int], np.dtype[np.int64]]


def count_rows(
    question: DataQuestion, installation: Installation, report: Report = lambda *_: None, most: int = COUNTED_WHOLE
) -> DataReport:
    """All that is told of a data set, kept by its content. `most`: rows up to which all are looked at.

    Raises `DataError` for rows that cannot be read, and `ModelError` for a tokenizer that cannot be loaded.
    """

    def told(share: float) -> None:
        report(Message(N_("Reading the rows")), share * READ_SHARE)

    examples = open_asked(question, installation, told)
    try:
        kept = find_report(question, examples.sha256, installation)
        if kept is not None:
            return kept
        found = row_report(question, examples)
        if question.model is not None and len(examples):
            found = _with_counts(question, found, examples, report, most)
    finally:
        examples.close()
    keep_report(question, found, installation)
    return found


def labeller_for(question: DataQuestion, tokenizer: PreTrainedTokenizerBase | None = None) -> Labeller:
    """Labels rows as the question's config has them trained. Raises `ModelError` for a tokenizer that cannot be loaded."""
    rules: dict[str, Any] = {"truncation": question.truncation, "train_on": question.train_on}
    return Labeller(tokenizer or load_tokenizer(str(question.model)), LabelRules(question.max_length, **rules))


def _with_counts(
    question: DataQuestion, found: DataReport, examples: ExampleFile, report: Report, most: int
) -> DataReport:
    report(Message(N_("Loading the tokenizer")), READ_SHARE)
    tokenizer = load_tokenizer(str(question.model))
    if not tokenizer.chat_template and isinstance(examples[0], Chat):
        return found  # the check says so, of the model and the form
    labeller = labeller_for(question, tokenizer)
    places = sample_of(len(examples), most, question.seed)
    census, told_at = TokenCensus(labeller.rules), 0.0
    for done, numbers, rows in _in_parts(examples, places):
        for place, labelled in zip(numbers, labeller.label(rows), strict=True):
            census.add(examples.row_number(place), labelled)
        if (now := time.monotonic()) - told_at > TELL_EVERY_S:
            told_at = now
            report(Message(N_("Counting tokens")), READ_SHARE + (1 - READ_SHARE) * done / len(places))
    counts = census.counts(len(examples), epoch_order(question, len(examples), places), question.batch_size)
    end = end_of_turn(tokenizer, stops_of(Path(str(question.model))), in_chats=isinstance(examples[0], Chat))
    return found.but(notes=[*found.notes, *census.notes(), *_of_end(end, len(examples))], counts=counts)


def _of_end(end: EndOfTurn, num_rows: int) -> Iterator[RowNote]:
    """What is wrong with the mark behind an answer, of all rows alike."""
    if end.trouble is not None:
        code: NoteCode = "end_is_not_eos" if end.trouble == "end_is_not_eos" else "no_end_of_turn"
        yield RowNote(code=code, count=num_rows, rows=[], detail=end.mark, message=end.message, remedy=end.remedy)


def sample_of(num_rows: int, most: int, seed: int) -> Places:
    """Places of the rows that are looked at, in their order: all of them, or as many as `most`, always the same."""
    if num_rows <= most:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(seed).choice(num_rows, most, replace=False))


def epoch_order(question: DataQuestion, num_rows: int, places: Places) -> Places:
    """Of the rows at `places` those that are trained on, by their numbers among these, in an order as an epoch has it."""
    is_trained = np.zeros(num_rows, bool)
    is_trained[left_over(num_rows, question.val_size if num_rows > 1 else 0, question.seed)] = True
    order = np.flatnonzero(is_trained[places])
    return np.random.default_rng(question.seed).permutation(order)


def _in_parts(examples: ExampleFile, places: Places) -> Iterator[tuple[int, list[int], list[Example]]]:
    """How many rows were taken, and some of them with their places."""
    # A set is read through faster than row by row.
    rows = zip(places.tolist(), iter(examples) if len(places) == len(examples) else map(examples.__getitem__, places.tolist()), strict=True)  # fmt: skip
    done = 0
    while part := list(islice(rows, AT_ONCE)):
        done += len(part)
        yield done, [place for place, _ in part], [row for _, row in part]
