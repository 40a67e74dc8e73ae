"""The starts of a run, in order: what each of them read and was made by, and which steps it trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.data.content_hash import sha256_together
from lora_backend.errors import DataChangedError
from lora_backend.i18n import N_
from lora_backend.runs.checkpoints.manifest import checkpoints_of, step_of
from lora_backend.runs.record.attempts import Attempt, ReadSet
from lora_backend.runs.record.run_store import RunStore


@dataclass(frozen=True)
class Span:
    """Steps that one start trained, and that no later one trained again."""

    number: int
    """Of the attempt."""
    first_step: int
    """Counted from 1."""
    last_step: int | None
    """None: up to where the run has got."""
    data_sha256: str | None
    """Of the bytes that its rows were read from; None where that was not recorded."""

    def to_json(self) -> dict[str, Any]:
        return {
            "start": self.number,
            "first_step": self.first_step,
            "last_step": self.last_step,
            "data_sha256": self.data_sha256,
        }


def spans_of(run: RunStore, upto: int | None = None) -> list[Span]:
    """Which start trained which steps, up to step `upto` (None: as far as the run has got).

    A start that goes on from an earlier checkpoint takes the steps behind it away from the starts before.
    """
    spans: list[Span] = []
    for attempt in run.read_attempts():
        begins_after = _begins_after(attempt)
        if begins_after is not None:
            spans = _cut(spans, begins_after)
            spans.append(Span(attempt.number, begins_after + 1, None, attempt.data_sha256 or None))
    return _cut(spans, upto) if upto is not None else spans


def _cut(spans: list[Span], last: int) -> list[Span]:
    """Without the steps behind `last`."""
    ends = ((span, last if span.last_step is None else min(span.last_step, last)) for span in spans)
    return [Span(span.number, span.first_step, end, span.data_sha256) for span, end in ends if end >= span.first_step]


def _begins_after(attempt: Attempt) -> int | None:
    """The step that a start goes on from; None for one whose trainer never came so far."""
    if attempt.from_step is not None:
        return attempt.from_step
    if attempt.num_threads is None:  # which a trainer has always written at this place
        return None
    return _step_in(attempt.resume_from) or 0


def known_data(run: RunStore) -> list[str]:
    """Hashes of the data that the next start may read without being asked: what the last start read, or a person has
    confirmed for it; what the last step was trained on that the start goes on from, or, before any, the launch's.

    Empty where nothing of it was recorded.
    """
    attempts = run.read_attempts()
    read = [sha256 for attempt in attempts for sha256 in (attempt.data_sha256, attempt.accepted_data_sha256) if sha256]
    trained = spans_of(run, upto=_step_ahead(run, attempts))
    launched = run.read_record().data_sha256
    either = (read[-1] if read else launched, trained[-1].data_sha256 if trained else launched)
    return [value for value in dict.fromkeys(either) if value]


def refuse_changed_data(run: RunStore, read: Sequence[ReadSet]) -> None:
    """Raise `DataChangedError` where the bytes of the sets as they were `read` are none that the run may go on in."""
    known, sha256 = known_data(run), sha256_together([one.sha256 for one in read])
    if known and sha256 is not None and sha256 not in known:
        attempts = run.read_attempts()
        has_read = any(attempt.data_sha256 for attempt in attempts)
        before = next((attempt.data_sets for attempt in reversed(attempts) if attempt.data_sets), [])
        named, then, now = _changed_of(before, read) or (", ".join(one.path for one in read), known[0], sha256)
        raise DataChangedError(
            N_("The data set {path} has changed since the run last read it (sha256 {then}, now {now}).")
            if has_read
            else N_("The data set {path} has changed since the run was launched (sha256 {then}, now {now})."),
            path=named,
            then=then[:12],
            now=now[:12],
        )


def _changed_of(before: Sequence[ReadSet], now: Sequence[ReadSet]) -> tuple[str, str, str] | None:
    """Path, hash then and hash now of the first set that is another than before; None where nobody can say."""
    sides = zip(before, now, strict=False)
    return next(((then.path, then.sha256, one.sha256) for then, one in sides if then.sha256 != one.sha256), None)


def _step_ahead(run: RunStore, attempts: list[Attempt]) -> int:
    """The step that the next start goes on from, as far as its launcher has said; else the newest checkpoint's."""
    newest = attempts[-1] if attempts else None
    if newest is not None and newest.names_checkpoint and _begins_after(newest) is None:
        return _step_in(newest.resume_from) or 0
    found = checkpoints_of(run)
    return (step_of(found[-1]) or 0) if found else 0


def _step_in(name: str | None) -> int | None:
    return None if name is None else step_of(Path(name))
