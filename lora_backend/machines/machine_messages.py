"""What machines of one run say to each other, before it trains and while it does."""

from __future__ import annotations

from typing import Literal

from lora_backend.machines.compared import MachineFacts
from lora_backend.runs.record.documents import StopRequest
from lora_backend.runs.record.peer_documents import PeerProcess, SaidFailure
from lora_backend.typed_json import Count, Number, Part, Sentence

Port = Count


class Hello(Part):
    """The first word of a machine to the first."""

    code: str
    """By which it is known that it means this run."""
    facts: MachineFacts
    address: str
    """Its own, on the network to the first."""
    port: Port
    """Where it waits for the others to try whether they reach it."""


class Place(Part):
    """Where a machine is."""

    node: Count
    address: str
    port: Port
    """As in `Hello`."""


class Meet(Part):
    """All are there: try to reach each of them."""

    machines: list[Place]


class Unreached(Part):
    """A machine that another one cannot reach."""

    place: Place
    reason: str
    """In the system's words."""


class Reached(Part):
    """A machine has tried all the others."""

    failed: list[Unreached]


class Go(Part):
    """The first machine has all it needs: begin."""

    address: str
    """Of the first machine."""
    port: Port
    """Where torch's store is."""
    run_id: str
    """By which the processes know one another in it."""


class Refused(Part):
    """It comes to nothing."""

    message: Sentence


class Doing(Part):
    """How the processes of a machine are; said to the first."""

    peers: list[PeerProcess]
    stop: StopRequest | None = None
    """A stop that was asked for on that machine."""
    wants_save: bool = False
    """Whether a checkpoint was."""


class Progress(Part):
    """How the run stands; said by the first."""

    step: Count = 0
    total_steps: Count | None = None
    epoch: Number | None = None
    stage: str | None = None
    fraction: Number | None = None
    eta_s: Number | None = None
    detail: Sentence | None = None
    best_step: Count | None = None
    peers: list[PeerProcess]
    """Of all machines."""
    stop: StopRequest | None = None
    """Asked for on whatever machine."""
    has_failed: bool = False
    """Whether a process of any machine has failed, so that the others end too."""


class LastWord(Part):
    """All processes of a machine have ended."""

    failure: SaidFailure | None = None
    """Of the one that failed first there."""
    follows: Count = 0
    """How likely it is that it failed because of another; 0 for what is its own."""
    age_s: Number = 0
    """How long ago that was: clocks of machines differ."""


class Verdict(Part):
    """How the run ended, on all of its machines."""

    outcome: Literal["finished", "stopped"] | None = None
    """None: it failed."""
    cause: str | None = None
    message: Sentence | None = None
    failure: SaidFailure | None = None
    """Of the process that failed first on whatever machine."""


def by_name(*kinds: type[Part]) -> dict[str, type[Part]]:
    """As a `Wire` takes them."""
    return {kind.__name__: kind for kind in kinds}


TO_THE_FIRST = by_name(Hello, Reached, Doing, LastWord)
FROM_THE_FIRST = by_name(Meet, Go, Refused, Progress, Verdict)
