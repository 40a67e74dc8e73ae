"""What rows say without a tokenizer: which of them are there twice, and which have no answer."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Collection, Iterable

import numpy as np

from lora_backend.data.data_report import MOST_NAMED, NoteCode, RowNote
from lora_backend.data.examples import Chat, Example, Pair, Text


class RowScan:
    """Looks at rows one after another; keeps eight bytes of each."""

    def __init__(self) -> None:
        self._digests = array("Q")
        self._numbers = array("Q")
        self._found: dict[NoteCode, list[int]] = {"empty_answer": [], "all_prompt": []}

    def add(self, number: int, example: Example) -> None:
        """Look at the row with this number, from 1."""
        self._digests.append(digest_of(example))
        self._numbers.append(number)
        if lacks_answer(example):
            self._found["all_prompt"].append(number)
        elif has_empty_answer(example):
            self._found["empty_answer"].append(number)

    def __len__(self) -> int:
        return len(self._digests)

    def duplicates(self) -> list[int]:
        """Numbers of the rows that a row before them is equal to, in their order."""
        digests = np.frombuffer(self._digests, np.uint64) if len(self) else np.zeros(0, np.uint64)
        _, first = np.unique(digests, return_index=True)
        is_first = np.zeros(len(digests), bool)
        is_first[first] = True
        return self._numbered(np.flatnonzero(~is_first))

    def in_both(self, held_back: Collection[int]) -> list[int]:
        """Numbers of the held-back rows (`held_back`: their places, from 0) that one of the others is equal to."""
        if not held_back:
            return []
        digests = np.frombuffer(self._digests, np.uint64)
        places = np.sort(np.fromiter(held_back, np.int64, len(held_back)))
        is_held = np.zeros(len(digests), bool)
        is_held[places] = True
        return self._numbered(places[np.isin(digests[places], digests[~is_held])])

    def notes(self, held_back: Collection[int] = ()) -> list[RowNote]:
        """What is to be said of these rows."""
        found: dict[NoteCode, list[int]] = {
            **self._found,
            "duplicate": self.duplicates(),
            "in_both_splits": self.in_both(held_back),
        }
        return [note_of(code, rows) for code, rows in found.items() if rows]

    def _numbered(self, places: Iterable[int]) -> list[int]:
        return [self._numbers[place] for place in places]


def note_of(code: NoteCode, rows: list[int]) -> RowNote:
    """The note on rows by their numbers, of which there is at least one."""
    return RowNote(code=code, count=len(rows), rows=rows[:MOST_NAMED])


def digest_of(example: Example) -> int:
    """The same for rows that teach the same."""
    match example:
        case Chat():
            said = [list(map(dict, example.messages)), example.tools and list(map(dict, example.tools)), sorted(example.untrained)]  # fmt: skip
            text = json.dumps(said, sort_keys=True, ensure_ascii=False, default=str)
        case Pair():
            text = json.dumps([example.prompt, example.completion], ensure_ascii=False)
        case Text():
            text = example.text
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=type(example).__name__.encode()).digest(), "big")


def lacks_answer(example: Example) -> bool:
    """Whether nothing of a row is to be learned, however it is written."""
    match example:
        case Chat():
            trained = (m for place, m in enumerate(example.messages) if place not in example.untrained)
            return not any(message.get("role") == "assistant" for message in trained)
        case Pair():
            return not example.completion.strip()
        case Text():
            return not example.text.strip()


def has_empty_answer(example: Example) -> bool:
    """Whether an answer of a chat says nothing and calls no tool."""
    return isinstance(example, Chat) and any(
        message.get("role") == "assistant" and _is_empty(message.get("content")) and not message.get("tool_calls")
        for message in example.messages
    )


def _is_empty(content: object) -> bool:
    return content is None or (isinstance(content, str) and not content.strip())
