"""Rows in tokens made into a batch without padding, and what loop and reporter ask of a batch, flat or padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch

from lora_backend.modeling.loss import IGNORED

Batch = Mapping[str, Any]
"""Padded: input_ids, attention_mask and labels, all rows × tokens. Flat: see `flat_batch`."""
Features = Mapping[str, Sequence[int]]
"""A row in tokens: input_ids and labels, of the same length."""


def flat_batch(rows: Sequence[Features]) -> dict[str, Any]:
    """The rows one behind the other, T tokens in all.

    input_ids, labels and position_ids are 1 × T. The label of each row's first token is ignored, so that the row before
    does not predict it; a padded row's first label is of no use either. Positions begin at 0 with each row. `lengths`
    is a tuple of numbers, one for each row.
    """
    lengths = tuple(len(row["input_ids"]) for row in rows)
    ids = list(chain.from_iterable(row["input_ids"] for row in rows))
    labels = list(chain.from_iterable((IGNORED, *row["labels"][1:]) for row in rows))
    positions = list(chain.from_iterable(range(length) for length in lengths))
    tensors = {
        name: torch.tensor([values], dtype=torch.long)
        for name, values in (("input_ids", ids), ("labels", labels), ("position_ids", positions))
    }
    return {**tensors, "lengths": lengths}


def is_flat(batch: Batch) -> bool:
    """Whether its rows stand one behind the other, as `flat_batch` puts them."""
    return "lengths" in batch


def num_rows_in(batch: Batch) -> int:
    """Examples, however they are laid out."""
    return len(batch["lengths"]) if is_flat(batch) else len(batch["labels"])


def num_tokens_in(batch: Batch) -> int:
    """Tokens that are no padding. Reads values of a padded batch: call it while that is in host memory."""
    return sum(batch["lengths"]) if is_flat(batch) else int(batch["attention_mask"].sum())
