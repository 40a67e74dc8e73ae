"""One of several processes of a run, where their machines meet, and how a process says that it failed."""

from __future__ import annotations

from lora_backend.runs.record.process_identity import Process
from lora_backend.typed_json import Count, Number, Part, Sentence


class SaidFailure(Part):
    """Why a trainer failed, in its own words."""

    cause: str
    """As a code."""
    message: Sentence
    time: Number | None = None
    """When it was written."""
    rank: Count | None = None
    """Of several processes the one that failed first."""


class PeerProcess(Part):
    """One of the processes that train together."""

    rank: Count
    """From 0, over all machines."""
    node: Count = 0
    """Its machine, from 0."""
    host: str = "–"
    """What its machine calls itself."""
    process: Process | None = None
    """Which process it is, on its machine."""
    device: str = "cpu"
    """What it computes on, as torch names it there."""
    failure: SaidFailure | None = None
    """Why it failed."""
    is_done: bool = False
    """Whether it came to its end without an error."""


class MachineMeeting(Part):
    """Where the machines of one run find one another; each has a run folder of its own, and the first keeps the results."""

    node: Count = 0
    """This machine, from 0."""
    endpoint: str
    """Host and port of the first machine, as the others reach it."""
    code: str
    """By which machines know that they mean the same run; whoever has it may join."""
