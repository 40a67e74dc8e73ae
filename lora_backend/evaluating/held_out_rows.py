"""The rows whose loss is measured: read and labelled as a training reads and labels them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from transformers import PreTrainedTokenizerBase

from lora_backend.config.schema import TrainingConfig
from lora_backend.data.content_hash import sha256_together
from lora_backend.data.example_file import ExampleFile, open_examples
from lora_backend.data.examples import Chat, Example, Pair
from lora_backend.data.held_back import held_back
from lora_backend.errors import DataError
from lora_backend.i18n import N_
from lora_backend.preflight.named_files import NamedRows
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.record.evaluation_documents import MOST_LETTERS, RowSet
from lora_backend.tokens.label_rows import rules_of
from lora_backend.tokens.labels import Labelled, Labeller, RowRefused
from lora_backend.tokens.row_counts import RowCounts
from lora_backend.tokens.token_rows import AT_ONCE, PackedRow

Report = Callable[[float], None]


@dataclass(frozen=True)
class AskedRows:
    """Rows of one data set."""

    path: str
    examples: ExampleFile
    indices: Sequence[int]
    """Of the examples that are measured."""


@dataclass(frozen=True)
class HeldOutRow:
    """A row that has a loss."""

    tokens: PackedRow
    asked: AskedRows
    index: int

    @property
    def number(self) -> int:
        """In its data set, from 1."""
        return self.asked.examples.row_number(self.index)

    def shortly(self) -> tuple[str, str]:
        """The beginning of what stands before the answer, and of what is learned."""
        return shortly(self.asked.examples[self.index])


@dataclass
class HeldOut:
    """What was read, and what was left out of it."""

    rows: list[HeldOutRow] = field(default_factory=list)
    num_left_out: int = 0
    num_cut: int = 0


def rows_asked(resolved: ResolvedConfig, max_rows: int | None, report: Report) -> list[AskedRows]:
    """Those of the config's `eval_dataset`, else those that its `val_size` holds out of each data set; the first
    `max_rows` of them. Empty where it names neither. Raises `DataError` where they cannot be read."""
    config = resolved.config
    named = [rows for rows in resolved.rows if rows.key == "eval_dataset"]
    if not named and config.val_size:
        named = list(resolved.training_sets)
    asked, left = [], max_rows
    for rows in named:
        examples = _opened(rows, report)
        indices: Sequence[int] = range(len(examples))
        if rows.key != "eval_dataset":
            indices = held_back(len(examples), config.val_size, config.seed).tolist() if len(examples) > 1 else []
        indices = indices[:left]
        left = None if left is None else left - len(indices)
        asked.append(AskedRows(str(rows.bound), examples, indices))
    return asked


def labelled(
    asked: Sequence[AskedRows], tokenizer: PreTrainedTokenizerBase, config: TrainingConfig, report: Report
) -> HeldOut:
    """The rows of which something is learned, with their labels. Raises `DataError` where there is none, and for more
    rows that the model's chat template refuses than `max_bad_rows` allows."""
    labeller, found = Labeller(tokenizer, rules_of(config)), HeldOut()
    num_rows = sum(len(one.indices) for one in asked)
    done = 0
    for one in asked:
        counts = RowCounts(one.path, len(one.examples), config.max_length)
        examples = _examples(one)
        while chunk := list(islice(examples, AT_ONCE)):
            rows = labeller.label([example for _, example in chunk])
            for (index, _), row in zip(chunk, rows, strict=True):
                counts.add(index, one.examples.row_number(index), row)
                _refuse_more_bad(one, index, row, counts, config)
                _keep(found, one, index, row)
            done += len(chunk)
            report(done / num_rows)
        counts.log()
    if not found.rows:
        raise DataError(
            N_(
                "No row has anything left to learn within `max_length` {limit}. Raise `max_length`, or shorten the rows."
            ),
            limit=config.max_length,
        )
    return found


def row_set(asked: Sequence[AskedRows], found: HeldOut, *, is_held_back: bool) -> RowSet:
    """What the result says of them."""
    return RowSet(
        path=", ".join(one.path for one in asked),
        sha256=sha256_together([one.examples.sha256 for one in asked]) or "",
        is_held_back=is_held_back,
        num_rows=len(found.rows),
        num_left_out=found.num_left_out,
        num_bad=sum(one.examples.num_bad_rows for one in asked),
        num_cut=found.num_cut,
    )


def shortly(example: Example) -> tuple[str, str]:
    """The beginning of what stands before the answer, and of what is learned of it."""
    if isinstance(example, Pair):
        prompt, text = example.prompt, example.completion
    elif isinstance(example, Chat):
        said = [(message.get("role"), _text_of(message.get("content"))) for message in example.messages]
        prompt = next((words for role, words in reversed(said) if role == "user"), "")
        text = next((words for role, words in reversed(said) if role == "assistant"), "")
    else:
        prompt, text = "", example.text
    return in_short(prompt), in_short(text)


def in_short(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text[: MOST_LETTERS * 4].split())
    return line if len(line) <= MOST_LETTERS else line[: MOST_LETTERS - 1] + "…"


def _opened(rows: NamedRows, report: Report) -> ExampleFile:
    how = rows.read_as
    return open_examples(
        rows.bound, rows.kept, how.data_format, dict(how.data_columns), how.max_bad_rows, report, split=how.split, most_bytes=how.most_bytes
    )  # fmt: skip


def _examples(asked: AskedRows) -> Iterator[tuple[int, Example]]:
    """In the order of the file where all of its first rows are asked for, which is read faster so."""
    if isinstance(asked.indices, range):
        return zip(asked.indices, asked.examples, strict=False)
    return ((index, asked.examples[index]) for index in asked.indices)


def _refuse_more_bad(
    asked: AskedRows, index: int, row: Labelled | RowRefused, counts: RowCounts, config: TrainingConfig
) -> None:
    if isinstance(row, RowRefused) and asked.examples.num_bad_rows + counts.refused.count > config.max_bad_rows:
        number = asked.examples.row_number(index)
        raise DataError(
            N_("Row {row} of {file} cannot be written with the model's chat template: {reason}"),
            row=number,
            file=asked.examples.rows.place(number - 1)[0],
            reason=row.message,
        )


def _keep(found: HeldOut, asked: AskedRows, index: int, row: Labelled | RowRefused) -> None:
    """Where only the first token is learned there is nothing before it that it could be predicted from."""
    packed = None if isinstance(row, RowRefused) or row.is_behind_cut else PackedRow.of(row)
    if packed is None or not packed.is_trained[1:].any():
        found.num_left_out += 1
        return
    found.rows.append(HeldOutRow(packed, asked, index))
    found.num_cut += isinstance(row, Labelled) and row.is_cut


def _text_of(content: Any) -> str:
    """Of a message: a text, or parts of which some are texts."""
    if isinstance(content, str):
        return content
    parts: Iterable[Any] = content if isinstance(content, list) else ()
    return " ".join(str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part)
