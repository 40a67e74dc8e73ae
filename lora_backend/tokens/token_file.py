"""Rows as they are trained, token by token, for a file: what a person holds against what they expect, or another tool reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from lora_backend.data.data_question import DataQuestion
from lora_backend.data.example_file import ExampleFile
from lora_backend.data.row_report import open_asked
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.modeling.load import load_tokenizer
from lora_backend.tokens.data_counting import Report, labeller_for
from lora_backend.tokens.labels import RowRefused

MOST_ROWS = 2000
MOST_CHARS = 24 * 2**20
"""Of the whole text: it goes through a pipe and into the browser."""


@dataclass(frozen=True)
class TokenFile:
    """Lines of JSON, one for each row."""

    text: str
    rows: int
    """That are in it."""
    is_whole: bool
    """Whether these are all good rows."""


def token_file(question: DataQuestion, installation: Installation, report: Report = lambda *_: None) -> TokenFile:
    """The first good rows with `input_ids`, `labels` (-100: not trained) and `tokens`, after the cut; of one that the
    template refuses, why."""
    examples = open_asked(question, installation, lambda share: report(Message(N_("Reading the rows")), share / 2))
    try:
        lines, size = [], 0
        most = min(MOST_ROWS, len(examples))
        for place, line in enumerate(islice(_lines(question, examples), most)):
            size += len(line)
            if size > MOST_CHARS:
                break
            lines.append(line)
            report(Message(N_("Writing the tokens")), 0.5 + place / most / 2)
        return TokenFile("".join(lines), len(lines), len(lines) == len(examples))
    finally:
        examples.close()


def _lines(question: DataQuestion, examples: ExampleFile) -> Iterator[str]:
    tokenizer = load_tokenizer(str(question.model))
    labeller = labeller_for(question, tokenizer)
    for place, example in enumerate(examples):
        (row,) = labeller.label([example])
        said: dict[str, object] = {"row": examples.row_number(place)}
        if isinstance(row, RowRefused):
            said["refused"] = row.message.text("en")
        else:
            tokens = tokenizer.convert_ids_to_tokens(row.input_ids)
            said |= {"input_ids": row.input_ids, "labels": row.labels, "tokens": tokens}
        yield json.dumps(said, ensure_ascii=False) + "\n"
