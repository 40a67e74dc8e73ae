"""What a cluster has to be able to do, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import Message


class ClusterError(FlightdeckError):
    """A cluster cannot be used, or refuses a job."""

    code = "cluster"


class ClusterSilentError(ClusterError):
    """A cluster does not answer now; it may later, and its jobs go on meanwhile."""


@dataclass(frozen=True)
class Task:
    """What a job does."""

    name: str
    """Known to the cluster by it."""
    number: int
    """Of the run's start."""
    folder: Path
    """The run's. The machine that runs the job must see it."""
    argv: Sequence[str]
    environment: Mapping[str, str]
    """Beside what the cluster sets."""


@dataclass(frozen=True)
class Look:
    """A job as the cluster sees it now."""

    phase: Literal["pending", "running", "over"]
    """`running` too while its processes are being ended."""
    state: str
    """In the cluster's own word."""
    reason: str | None = None
    """In its own words."""
    meaning: Message | None = None
    """The same for people, where it is known."""
    host: str | None = None
    exit_code: int | None = None
    """Negative: a signal."""


class Cluster(Protocol):
    """One cluster. Every question raises `ClusterSilentError` where it does not answer."""

    name: str
    """As people call it."""
    cancels_late: Message | None
    """Said of a job that was cancelled and waits still, where that may take its time."""

    def check(self) -> None:
        """Raise `ClusterError` where a job cannot be submitted from here, as it was asked for."""

    def submit(self, task: Task) -> str:
        """Submit a job; returns its id. Raises `ClusterError` with the cluster's own words where it is refused."""

    def find(self, name: str) -> str | None:
        """The id of the newest job of that name."""

    def look(self, job_id: str) -> Look | None:
        """None: it knows no such job (any more)."""

    def cancel(self, job_id: str) -> None:
        """Ask for its end. That it is asked for does not mean that it comes."""

    def kill(self, job_id: str) -> None:
        """The same without giving its processes time."""

    def words(self, job_id: str, folder: Path) -> str:
        """What the job wrote beside the trainer: of what started it, and of what ended it."""
