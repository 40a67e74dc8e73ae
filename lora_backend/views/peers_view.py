"""The processes that train a run together: which they are, how each is, and where its log is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.i18n import N_, Message
from lora_backend.runs.record.peer_documents import PeerProcess
from lora_backend.runs.record.process_identity import boot_id, is_alive
from lora_backend.runs.record.run_store import RunStore

HEADS = {
    "rank": N_("Process"),
    "node": N_("Machine"),
    "device": N_("Device"),
    "pid": N_("PID"),
    "state": N_("State"),
    "log": N_("Log"),
}
"""Of the columns of a table of processes."""
RUNS, DONE, FAILED, ENDED = N_("running"), N_("done"), N_("failed"), N_("ended")


@dataclass(frozen=True)
class ShownPeer:
    """One of the processes."""

    rank: int
    node: int
    host: str
    device: str
    pid: int | None
    state: str
    """One of `RUNS`, `DONE`, `FAILED`, `ENDED`."""
    log: Path | None
    """None of one on another machine, which keeps it."""
    failure: Message | None
    """In its own words."""

    @property
    def machine(self) -> str:
        """Its number, from 1, and what it calls itself."""
        return f"{self.node + 1} ({self.host})"

    def cells(self) -> list[str]:
        """A row below `HEADS`."""
        pid, log = str(self.pid or "–"), str(self.log or "–")
        return [str(self.rank), self.machine, self.device, pid, str(Message(self.state)), log]

    def to_json(self) -> dict[str, Any]:
        """For a script."""
        failure = self.failure.text() if self.failure else None
        state = {RUNS: "running", DONE: "done", FAILED: "failed", ENDED: "ended"}[self.state]
        plain = {name: getattr(self, name) for name in ("rank", "node", "host", "device", "pid")}
        return {**plain, "state": state, "log": str(self.log) if self.log else None, "failure": failure}


def shown_peers(run: RunStore) -> list[ShownPeer]:
    """Those of the newest start, by rank; none where one process trains alone."""
    meeting, has_ended = run.read_attempt().meeting, run.exit_json.exists()
    here = meeting.node if meeting else 0
    return [
        ShownPeer(
            rank=peer.rank,
            node=peer.node,
            host=peer.host,
            device=peer.device,
            pid=peer.process.pid if peer.process else None,
            state=_state(peer, has_ended=has_ended),
            log=run.peer_log(peer.rank) if peer.node == here else None,
            failure=peer.failure.message if peer.failure else None,
        )
        for peer in run.read_status().attempt.peers
    ]


def _state(peer: PeerProcess, *, has_ended: bool) -> str:
    if peer.failure is not None:
        return FAILED
    if peer.is_done:
        return DONE
    # Of another machine it is known as it was last written, until the run has ended.
    is_here = peer.process is not None and peer.process.boot_id == boot_id()
    if peer.process is None or (has_ended if not is_here else not is_alive(peer.process)):
        return ENDED
    return RUNS
