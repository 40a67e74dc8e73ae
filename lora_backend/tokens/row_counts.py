"""What was counted of a set's rows while they were labelled: exactly, each row once however often it is trained."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np

from lora_backend.data.data_report import NoteCode
from lora_backend.i18n import Message, Plural
from lora_backend.modeling.loss import IGNORED
from lora_backend.tokens.labels import Labelled, RowRefused
from lora_backend.tokens.token_census import codes_of

logger = logging.getLogger(__name__)
MOST_NAMED = 10


@dataclass
class Counted:
    """Rows of which the same is to be said, with the numbers of the first."""

    count: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        self.count += 1
        if len(self.rows) < MOST_NAMED:
            self.rows.append(number)

    @property
    def named(self) -> str:
        return ", ".join(map(str, self.rows)) + (", …" if self.count > len(self.rows) else "")


CUT = Plural(
    "{count} row is longer than `max_length` {limit} and is cut: {rows}.",
    "{count} rows are longer than `max_length` {limit} and are cut: {rows}.",
)
WITHOUT_END = Plural(
    "{count} row loses the end of its last answer, so that the end is not learned from it: {rows}.",
    "{count} rows lose the end of their last answer, so that the end is not learned from them: {rows}.",
)
BEHIND_CUT = Plural(
    "{count} row is left out, because nothing of it is left to learn within `max_length` {limit}: {rows}.",
    "{count} rows are left out, because nothing of them is left to learn within `max_length` {limit}: {rows}.",
)
LOST = Plural(
    "{count} row has answers that the model's chat template does not write as they are given: {rows}.",
    "{count} rows have answers that the model's chat template does not write as they are given: {rows}.",
)
REFUSED = Plural(
    "{count} row is left out, because the model's chat template refuses it: {rows}.",
    "{count} rows are left out, because the model's chat template refuses them: {rows}.",
)


class RowCounts:
    """Of one set."""

    def __init__(self, name: str, num_rows: int, max_length: int) -> None:
        self.name, self.num_rows, self._max_length = name, num_rows, max_length
        self._is_seen = np.zeros(num_rows, bool)
        self.seen = self.tokens = self.trained_tokens = self.longest = 0
        self.cut, self.without_end, self.behind_cut = Counted(), Counted(), Counted()
        self.lost, self.refused = Counted(), Counted()
        self._found: dict[NoteCode, Counted] = {
            "cut": self.cut, "without_end": self.without_end, "behind_cut": self.behind_cut, "all_prompt": self.behind_cut,
            "lost_answer": self.lost, "refused": self.refused,
        }  # fmt: skip

    def add(self, index: int, number: int, row: Labelled | RowRefused) -> None:
        """The row at `index`, which people know by its `number`."""
        if self._is_seen[index]:
            return
        self._is_seen[index] = True
        self.seen += 1
        for code in codes_of(row):
            self._found[code].add(number)
        if isinstance(row, RowRefused):
            return
        self.longest = max(self.longest, row.num_tokens)
        if not row.is_behind_cut:
            self.tokens += len(row.input_ids)
            self.trained_tokens += len(row.labels) - row.labels.count(IGNORED)

    @property
    def num_trained(self) -> int:
        """Rows that were looked at and teach something."""
        return self.seen - self.behind_cut.count - self.refused.count

    def log(self) -> None:
        """The figures, and what there is to say of rows."""
        logger.info(
            "data: %s of %s rows of %s labelled: %s tokens, %s of them trained, longest row %s tokens; %s cut, %s without end, %s behind the cut",
            self.seen, self.num_rows, self.name, self.tokens, self.trained_tokens, self.longest,
            self.cut.count, self.without_end.count, self.behind_cut.count,
        )  # fmt: skip
        for said, counted in (
            (CUT, self.cut), (WITHOUT_END, self.without_end), (BEHIND_CUT, self.behind_cut), (LOST, self.lost), (REFUSED, self.refused),
        ):  # fmt: skip
            if counted.count:
                values = {"count": counted.count, "limit": self._max_length, "rows": counted.named}
                logger.warning("data: %s: %s", self.name, Message(said, values))
