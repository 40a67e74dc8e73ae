"""The other machines of a run while it trains, as one of them sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from lora_backend.i18n import N_, Message
from lora_backend.machines.machine_messages import LastWord, Verdict
from lora_backend.runs.record.failures import MACHINE_LOST, failure
from lora_backend.runs.record.peer_documents import SaidFailure

LOST_FOLLOWS = 1
"""A machine that is gone is the cause, unless a process has failed by itself; that its processes are gone follows."""


@dataclass(frozen=True)
class Store:
    """Where the processes of all machines find one another."""

    address: str
    """Of the first machine."""
    port: int
    run_id: str
    interface: str | None
    """Of this machine's network, over which they talk."""

    @property
    def endpoint(self) -> str:
        """As launchers take it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Company(ABC):
    """The connection to them. Nothing here waits but `settle`; `tick` is called often."""

    store: Store
    has_fallen: bool = False
    """Whether a process of another machine has failed, or a machine is gone."""

    @abstractmethod
    def tick(self, *, has_failed: bool) -> None:
        """Hear what is new and say what is. `has_failed`: whether a process of this machine has failed."""

    @abstractmethod
    def settle(self, word: LastWord) -> Verdict:
        """All processes here have ended: how the run did, on all machines."""

    @abstractmethod
    def leave(self, word: LastWord) -> None:
        """Go without waiting for anybody."""


def lost(node: int, place: str, reason: str) -> SaidFailure:
    """A machine is gone. `place`: what it calls itself, or its address."""
    found = failure(MACHINE_LOST, number=node + 1, place=place, reason=reason)
    return SaidFailure(cause=found.cause, message=found.message)


def stopped_now(node: int, host: str) -> SaidFailure:
    """A second signal on one machine."""
    said = Message(N_("The run was stopped at once on machine {number} ({host})."), {"number": node + 1, "host": host})
    return SaidFailure(cause="stopped_now", message=said)
