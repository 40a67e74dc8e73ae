"""The starts of a run, in order: what each of them read and was made by, and which steps it trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.errors import DataChangedError
from lora_backend.i18n import N_
from lora_backend.runs.checkpoints.manifest import checkpoints_of, step_of
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.run_folder import RunFolder


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
        return {"start": self.number, "first_step": self.first_step, "last_step": self.last_step, "data_sha256": self.data_sha256}  # fmt: skip


def attempts_of(run: RunFolder) -> list[dict[str, Any]]:
    """Every attempt's file that can be read, in order, each with its `number`."""
    numbers = sorted(int(path.stem) for path in run.attempts.glob("*.json") if path.stem.isdecimal())
    found = ((number, read_json(run.attempts / f"{number}.json")) for number in numbers)
    return [{**attempt, "number": number} for number, attempt in found if attempt is not None]


def spans_of(run: RunFolder, upto: int | None = None) -> list[Span]:
    """Which start trained which steps, up to step `upto` (None: as far as the run has got).

    A start that goes on from an earlier checkpoint takes the steps behind it away from the starts before.
    """
    spans: list[Span] = []
    for attempt in attempts_of(run):
        begins_after = _begins_after(attempt)
        if begins_after is not None:
            spans = _cut(spans, begins_after)
            spans.append(Span(attempt["number"], begins_after + 1, None, _text(attempt.get("data_sha256"))))
    return _cut(spans, upto) if upto is not None else spans


def _cut(spans: list[Span], last: int) -> list[Span]:
    """Without the steps behind `last`."""
    ends = ((span, last if span.last_step is None else min(span.last_step, last)) for span in spans)
    return [Span(span.number, span.first_step, end, span.data_sha256) for span, end in ends if end >= span.first_step]


def _begins_after(attempt: dict[str, Any]) -> int | None:
    """The step that a start goes on from; None for one whose trainer never came so far."""
    step = attempt.get("from_step")
    if isinstance(step, int) and not isinstance(step, bool) and step >= 0:
        return step
    if "num_threads" not in attempt:  # which a trainer has always written at this place
        return None
    return _step_in(attempt.get("resume_from")) or 0


def known_data(run: RunFolder) -> list[str]:
    """Hashes of the data that the next start may read without being asked: what the last start read, or a person has
    confirmed for it; what the last step was trained on that the start goes on from, or, before any, the launch's.

    Empty where nothing of it was recorded.
    """
    attempts = attempts_of(run)
    read = [value for attempt in attempts for key in ("data_sha256", "accepted_data_sha256") if (value := _text(attempt.get(key)))]  # fmt: skip
    trained = spans_of(run, upto=_step_ahead(run, attempts))
    launched = _text(run.read_run().get("data_sha256"))
    either = (read[-1] if read else launched, trained[-1].data_sha256 if trained else launched)
    return [value for value in dict.fromkeys(either) if value]


def refuse_changed_data(run: RunFolder, path: str, sha256: str) -> None:
    """Raise `DataChangedError` where the bytes of `path`, whose hash is `sha256`, are none that the run may go on in."""
    known = known_data(run)
    if known and sha256 not in known:
        has_read = any(_text(attempt.get("data_sha256")) for attempt in attempts_of(run))
        raise DataChangedError(
            N_("The data set {path} has changed since the run last read it (sha256 {then}, now {now}).")
            if has_read
            else N_("The data set {path} has changed since the run was launched (sha256 {then}, now {now})."),
            path=path,
            then=known[0][:12],
            now=sha256[:12],
        )


def _step_ahead(run: RunFolder, attempts: list[dict[str, Any]]) -> int:
    """The step that the next start goes on from, as far as its launcher has said; else the newest checkpoint's."""
    newest = attempts[-1] if attempts else {}
    if "resume_from" in newest and _begins_after(newest) is None:
        return _step_in(newest["resume_from"]) or 0
    found = checkpoints_of(run)
    return (step_of(found[-1]) or 0) if found else 0


def _step_in(name: Any) -> int | None:
    return step_of(Path(name)) if isinstance(name, str) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
