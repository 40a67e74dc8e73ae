"""What a machine of a run reads from its own folder for the others, and writes there of what they say."""

from __future__ import annotations

from collections.abc import Sequence

from lora_backend.atomic import write_json
from lora_backend.i18n import Message
from lora_backend.machines.machine_messages import Doing, Progress
from lora_backend.runs.record.documents import StopRequest
from lora_backend.runs.record.peer_documents import PeerProcess
from lora_backend.runs.record.run_store import RunStore

MEETING = "meeting"
"""The stage in which machines wait for one another."""
MET = "starting"
"""The stage after it, until the first process says what it is at."""


def say_waiting(folder: RunStore, detail: Message) -> bool:
    """Write down for whom the run waits; whether that is new."""
    attempt = folder.read_status().attempt
    if (attempt.stage, attempt.detail) == (MEETING, detail):
        return False
    with folder.changing_status() as status:
        status.attempt.stage, status.attempt.detail = MEETING, detail
    return True


def stop_waiting(folder: RunStore) -> None:
    """All are there."""
    with folder.changing_status() as status:
        status.attempt.stage, status.attempt.detail = MET, None


def take_stop(folder: RunStore, request: StopRequest) -> None:
    """Stop this machine's run as well; a stop that was asked for here stands."""
    if not folder.stop_request.exists():
        write_json(folder.stop_request, request.to_json())


def doing_here(folder: RunStore, node: int) -> Doing:
    """What the first machine is to know."""
    peers = [peer for peer in folder.read_status().attempt.peers if peer.node == node]
    wants_save = folder.save_request.exists()
    return Doing(peers=peers, stop=folder.read_stop_request(), wants_save=wants_save)


def take_peers(folder: RunStore, peers: Sequence[PeerProcess], node: int, ranks: range) -> None:
    """Write down what machine `node` says of its own processes, which have these ranks."""
    theirs = [peer.model_copy(update={"node": node}) for peer in peers if peer.rank in ranks]
    with folder.changing_status() as status:
        others = [peer for peer in status.attempt.peers if peer.rank not in ranks]
        status.attempt.peers = sorted([*others, *theirs], key=lambda peer: peer.rank)


def progress_here(folder: RunStore, *, has_failed: bool) -> Progress:
    """What the other machines are to know."""
    status = folder.read_status()
    now = status.attempt
    return Progress(
        step=status.step,
        total_steps=status.total_steps,
        epoch=status.epoch,
        stage=now.stage,
        fraction=now.fraction,
        eta_s=now.eta_s,
        detail=now.detail,
        best_step=now.best_step,
        peers=now.peers,
        stop=folder.read_stop_request(),
        has_failed=has_failed,
    )


def take_progress(folder: RunStore, progress: Progress, node: int) -> None:
    """Write down how the run stands; of this machine's own processes the folder knows more."""
    if progress.stop is not None:
        take_stop(folder, progress.stop)
    with folder.changing_status() as status:
        status.step, status.total_steps, status.epoch = progress.step, progress.total_steps, progress.epoch
        now = status.attempt
        now.stage, now.fraction, now.eta_s = progress.stage, progress.fraction, progress.eta_s
        now.detail, now.best_step = progress.detail, progress.best_step
        own = [peer for peer in now.peers if peer.node == node]
        others = [peer for peer in progress.peers if peer.node != node]
        now.peers = sorted([*own, *others], key=lambda peer: peer.rank)
