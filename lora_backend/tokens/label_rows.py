"""Rows as they are read into rows as they are trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from lora_backend.config.schema import TrainingConfig
from lora_backend.data.examples import Chat, Example, Pair
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message, Plural
from lora_backend.tokens.labels import Labeller, LabelRules, RowRefused

logger = logging.getLogger(__name__)


def rules_of(config: TrainingConfig) -> LabelRules:
    """What a config says of labels."""
    return LabelRules(config.max_length, config.truncation, config.train_on)


def example_of(row: Mapping[str, Any]) -> Example:
    """A row of `messages`, or of `prompt` and `completion`."""
    return Chat(tuple(row["messages"])) if "messages" in row else Pair(row["prompt"], row["completion"])


def label_rows(rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, rules: LabelRules) -> Dataset:
    """`input_ids`, `attention_mask`, `labels` for every row that teaches something; says which do not.

    Raises `DataError` for a row that the template refuses, and where no row is left.
    """
    labelled = Labeller(tokenizer, rules).label([example_of(row) for row in rows])
    kept, cut, without_end, behind, lost = [], [], [], [], []
    for number, row in enumerate(labelled, start=1):
        if isinstance(row, RowRefused):
            raise DataError(N_("Row {row}: {reason}"), row=number, reason=row.message)
        if row.is_behind_cut:
            behind.append(number)
            continue
        kept.append({"input_ids": row.input_ids, "attention_mask": [1] * len(row.input_ids), "labels": row.labels})
        cut += [number] * row.is_cut
        without_end += [number] * row.has_lost_end
        lost += [number] * bool(row.lost_answers)
    for numbers, said in ((cut, CUT), (without_end, WITHOUT_END), (behind, BEHIND_CUT), (lost, LOST)):
        if numbers:
            logger.warning("%s", Message(said, {"count": len(numbers), "limit": rules.max_length, "rows": _first(numbers)}))  # fmt: skip
    if not kept:
        raise DataError(
            N_(
                "No row has anything left to learn within `max_length` {limit}. Raise `max_length`, or shorten the rows."
            ),
            limit=rules.max_length,
        )
    return Dataset.from_list(kept)


CUT = Plural(
    "{count} row is longer than `max_length` {limit} and is cut (row {rows}).",
    "{count} rows are longer than `max_length` {limit} and are cut (rows {rows}).",
)
WITHOUT_END = Plural(
    "{count} row loses the end of its last answer, so that the end is not learned from it (row {rows}).",
    "{count} rows lose the end of their last answer, so that the end is not learned from them (rows {rows}).",
)
BEHIND_CUT = Plural(
    "{count} row is left out: nothing of it is left to learn within `max_length` {limit} (row {rows}).",
    "{count} rows are left out: nothing of them is left to learn within `max_length` {limit} (rows {rows}).",
)
LOST = Plural(
    "{count} row has answers that the model's chat template does not write as they are given (row {rows}).",
    "{count} rows have answers that the model's chat template does not write as they are given (rows {rows}).",
)


def _first(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "")
