"""What somebody asks to start: a config that was resolved, and how it shall start."""

from __future__ import annotations

from dataclasses import dataclass, field

from lora_backend.clusters.cluster_documents import ClusterRequest
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.record.peer_documents import MachineMeeting


@dataclass(frozen=True)
class StartOptions:
    """How to start, whatever the config says; the same for all rows of a table."""

    actor: str | None = None
    """Who starts it; by default whoever the process belongs to."""
    accepts: Verdict = "fits"
    """The worst plan that is started without asking."""
    shares: bool = False
    """Beside other runs, leasing nothing."""
    meeting: MachineMeeting | None = None
    """Where this machine meets the others that train with it; needed where the config names several."""
    cluster: ClusterRequest | None = None
    """Of a resume: where it goes on, if not where it trained before."""
    from_step: int | None = None
    """Of a resume: the checkpoint to go on from; 0: from the first step; None: from the newest that is whole."""
    here: bool = False
    """Of a resume: it goes on on this machine, wherever it trained before."""


@dataclass(frozen=True)
class StartRequest:
    """One run that shall start. Only what `resolve` has bound gets here, so no path of it is unbound."""

    config: ResolvedConfig
    options: StartOptions = field(default_factory=StartOptions)
    name: str | None = None
    text: str | None = None
    """The config's text as the run keeps it, where that is not the document's own."""
