"""How to make a run again, and what is not any more as it was then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lora_backend.i18n import N_, Message
from lora_backend.runs.history.reproduce import Reproduction, ThenNow

NO_COMMAND = N_(
    "No command reproduces it: it was trained on a caller's own batches, or its config file no longer exists."
)
SAME = N_("No differences found.")
HEADS = (N_("What"), N_("Then"), N_("Now"))
SHORT = 16
"""Letters of a hash: enough to tell two apart."""


@dataclass(frozen=True)
class Again:
    """What there is to say of it."""

    command: str | None
    rows: tuple[tuple[Message, Message, Message], ...]
    """What it was made by, then and now; `HEADS` stand above."""
    warnings: tuple[Message, ...]
    """What may give another adapter."""
    notes: tuple[Message, ...]
    is_as_recorded: bool


def again(found: Reproduction) -> Again:
    """The view of a reproduction."""
    notes = [
        Message(N_("Start {number}: {difference}"), {"number": number, "difference": message})
        for number, said in found.starts
        for message in said
    ]
    if found.later_changes:
        keys = {"keys": ", ".join(found.later_changes)}
        notes.append(Message(N_("It was resumed with other settings, which the command uses from the first step on: {keys}."), keys))  # fmt: skip
    return Again(found.command, tuple(_rows(found)), tuple(found.base_model), tuple(notes), found.is_as_recorded)


def _rows(found: Reproduction) -> Iterator[tuple[Message, Message, Message]]:
    data = found.data_sha256
    if not found.data_of_steps:
        yield _row(Message(N_("Hash of the data")), data, N_("cannot be read"))
    for span in found.data_of_steps:
        yield _row(_steps(span), ThenNow(span["data_sha256"], data.now), N_("cannot be read"))
    yield _row(Message(N_("Commit of the code")), found.commit, N_("unknown"))
    if found.was_modified or found.is_modified:
        yield Message(N_("Uncommitted changes")), _yes(found.was_modified), _yes(found.is_modified)
    for name, sides in found.versions.items():
        yield _row(_plain(name), sides, N_("not installed"))


def _row(head: Message, sides: ThenNow, absent: str) -> tuple[Message, Message, Message]:
    """`absent`: what a side is that nobody knows now."""
    then = Message(N_("not recorded")) if sides.then is None else _short(sides.then)
    now = Message(absent) if sides.now is None else _short(sides.now)
    return head, then, Message(N_("as before")) if sides.differs is False else now


def _steps(span: Mapping[str, Any]) -> Message:
    last = "" if span["last_step"] is None else span["last_step"]
    return Message(N_("Hash of the data of steps {first} to {last}"), {"first": span["first_step"], "last": last})


def _yes(is_so: bool | None) -> Message:
    return _plain("–") if is_so is None else Message(N_("yes") if is_so else N_("no"))


def _short(value: str) -> Message:
    return _plain(value[:SHORT] if len(value) in (40, 64) else value)


def _plain(text: str) -> Message:
    """Nothing but a value: there is nothing in it to translate."""
    return Message("{text}", {"text": text})
