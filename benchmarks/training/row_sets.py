"""The rows that are trained on: the demo's chats, and rows of mixed length made of them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.data.row_file import preview_rows
from lora_backend.demo.config import TRAIN_FILE

SHORTEST, LONGEST = 60, 600
"""Tokens of a row of mixed length; as many rows are short as long on a scale of ratios, as chats are."""
HALF_A_CHAT = 22
"""Tokens: up to so many below the length that was drawn a row is left as it is, for another chat would make it too long."""
MAX_LENGTH = 1024
SEED = 42

Row = dict[str, list[int]]
"""`input_ids` and `labels` of one row, as everybody who is compared gets them."""


@dataclass(frozen=True)
class RowSet:
    """Rows under the name that the tables give them."""

    name: str
    rows: list[Row]

    @property
    def num_tokens(self) -> int:
        return sum(len(row["input_ids"]) for row in self.rows)

    @property
    def num_labels(self) -> int:
        """Tokens that are learned; the first of a row is predicted by nothing."""
        return sum(label != -100 for row in self.rows for label in row["labels"][1:])

    def __str__(self) -> str:
        lengths = [len(row["input_ids"]) for row in self.rows]
        return (
            f"{self.name}: {len(self.rows)} rows of {min(lengths)} to {max(lengths)} tokens, {self.num_tokens} tokens, "
            f"{self.num_labels} of them learned"
        )


def demo_chats(model: str, count: int) -> RowSet:
    """So many of the demo's chats, from all over its file."""
    from lora_backend.modeling.load import load_tokenizer

    chats, tokenizer = _chats(), load_tokenizer(model)
    rows = _labelled([chats[len(chats) * number // count] for number in range(count)], tokenizer)
    return RowSet("the demo's chats", _shuffled(rows))


def mixed_rows(model: str, count: int) -> RowSet:
    """Several of the demo's chats one behind the other, until a row has about the length that was drawn for it."""
    from lora_backend.modeling.load import load_tokenizer

    chats, chance, tokenizer = _chats(), random.Random(SEED), load_tokenizer(model)
    rows: list[Row] = []
    while len(rows) < count:
        wanted = math.exp(chance.uniform(math.log(SHORTEST), math.log(LONGEST)))
        messages: list[Any] = []
        row: Row = {}
        while len(row.get("input_ids", ())) < max(wanted - HALF_A_CHAT, SHORTEST):
            messages = messages + chance.choice(chats)["messages"]
            row = _labelled([{"messages": messages}], tokenizer)[0]
        if len(row["input_ids"]) <= LONGEST:
            rows.append(row)
    return RowSet("rows of mixed length", _shuffled(rows))


def _chats() -> list[dict[str, Any]]:
    return [dict(row.checked()) for row in preview_rows(Path(TRAIN_FILE), 1000)]


def _labelled(chats: Sequence[dict[str, Any]], tokenizer: Any) -> list[Row]:
    from lora_backend.tokens.label_rows import label_rows
    from lora_backend.tokens.labels import LabelRules

    found = label_rows(chats, tokenizer, LabelRules(MAX_LENGTH))
    return [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in found]


def _shuffled(rows: list[Row]) -> list[Row]:
    random.Random(SEED).shuffle(rows)
    return rows
