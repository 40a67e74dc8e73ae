"""Rows as the model's template writes them, for showing what is trained on and what is cut."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence

from lora_backend.data.chat_rows import RowLeftOutError
from lora_backend.data.data_question import DataQuestion
from lora_backend.data.example_file import ExampleFile
from lora_backend.data.examples import Chat, Example
from lora_backend.data.raw_rows import BadRowError
from lora_backend.data.rendered_row import Piece, RenderedRow, RenderedRows
from lora_backend.data.row_report import open_asked
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message, Plural
from lora_backend.installation import Installation
from lora_backend.tokens.data_counting import Report, labeller_for
from lora_backend.tokens.labels import Labeller, RowRefused, WholeRow, plain_text

MOST_FOUND = 50
"""Rows that a search gives."""
MOST_ASKED = 200
TELL_EVERY_S = 0.2


def show_asked(
    question: DataQuestion,
    installation: Installation,
    report: Report = lambda *_: None,
    *,
    rows: Sequence[int] = (),
    search: str | None = None,
) -> RenderedRows:
    """Rows by their numbers, or the first ones in which a text stands. Raises `DataError` for a number that is none."""
    examples = open_asked(question, installation, lambda share: report(Message(N_("Reading the rows")), share / 2))
    try:
        found, is_whole = list(rows[:MOST_ASKED]), True
        if search is not None:
            found = _searched(examples, search.casefold(), lambda share: report(Message(N_("Searching the rows")), 0.5 + share / 2))  # fmt: skip
            is_whole = len(found) <= MOST_FOUND
        report(Message(N_("Loading the tokenizer")), 0.9)
        labeller = labeller_for(question)
        shown = [_row(examples, labeller, number) for number in found[: MOST_ASKED if search is None else MOST_FOUND]]
    finally:
        examples.close()
    return RenderedRows(rows=shown, count=len(shown), is_whole=is_whole)


def rendered(labeller: Labeller, example: Example, number: int) -> RenderedRow:
    """One row by its example."""
    whole = labeller.whole(example)
    if isinstance(whole, RowRefused):
        return RenderedRow(row=number, pieces=[], note=whole.message)
    trained = sum(is_trained and is_kept for is_trained, is_kept in zip(whole.trained, whole.kept, strict=True))
    tokens = len(whole.input_ids)
    (labelled,) = labeller.label([example])
    note: Message | None = None
    if isinstance(labelled, RowRefused):
        note = labelled.message
    elif labelled.is_dropped:
        note = Message(N_("The row has more than {limit} tokens (`max_length`) and is left out."), {"limit": labeller.rules.max_length})  # fmt: skip
    elif labelled.is_behind_cut:
        note = Message(N_("Nothing of this row is trained on: its answer begins after the cut at `max_length`."))
    elif labelled.lost_answers:
        note = Message(
            Plural(
                "The chat template rewrites or leaves out {count} answer.",
                "The chat template rewrites or leaves out {count} answers.",
            ),
            {"count": labelled.lost_answers},
        )
    return RenderedRow(row=number, pieces=list(pieces_of(whole)), tokens=tokens, trained_tokens=trained, note=note)


def pieces_of(row: WholeRow) -> Iterator[Piece]:
    """The whole text, cut where something else is true of the tokens; each special token is a piece of its own."""
    at, text, before = 0, "", (False, False, False)
    for place, (_, end) in enumerate(row.offsets):
        now = (row.trained[place] and row.kept[place], row.special[place], not row.kept[place])
        end = len(row.text) if place + 1 == len(row.offsets) else max(at, end)
        if text and (now != before or row.special[place]):
            yield _piece(text, before)
            text = ""
        text, before, at = text + row.text[at:end], now, end
    if text:
        yield _piece(text, before)


def _piece(text: str, said: tuple[bool, bool, bool]) -> Piece:
    is_trained, is_special, is_cut = said
    return Piece(text=text, is_trained=is_trained, is_special=is_special, is_cut=is_cut)


def _row(examples: ExampleFile, labeller: Labeller, number: int) -> RenderedRow:
    if not 1 <= number <= len(examples.rows):
        raise DataError(
            Plural("There is no row {row}: the data set has {count} row.", "There is no row {row}: the data set has {count} rows."),
            row=number,
            count=len(examples.rows),
        )  # fmt: skip
    try:
        example = examples.found_form.example(examples.rows.row(number - 1).checked())
    except BadRowError as error:
        return RenderedRow(row=number, pieces=[], note=error.message)
    except RowLeftOutError:
        note = Message(N_("The row is marked as not to be trained on, so it is left out."))
        return RenderedRow(row=number, pieces=[], note=note)
    return rendered(labeller, example, number)


def _searched(examples: ExampleFile, text: str, report: Callable[[float], None]) -> list[int]:
    """Numbers of the first rows in which the text stands, one more than are shown where there are more."""
    found: list[int] = []
    told_at = time.monotonic()
    for place, example in enumerate(examples):
        if text in text_of(example).casefold():
            found.append(examples.row_number(place))
            if len(found) > MOST_FOUND:
                break
        if (now := time.monotonic()) - told_at > TELL_EVERY_S:
            told_at = now
            report(place / len(examples))
    return found


def text_of(example: Example) -> str:
    """All that a row says, for a search."""
    if isinstance(example, Chat):
        said = [value for message in example.messages for key, value in message.items() if key != "role"]
        return "\n".join(
            one if isinstance(one, str) else json.dumps(one, ensure_ascii=False, default=str) for one in said
        )
    return plain_text(example)
