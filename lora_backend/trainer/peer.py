"""One of several processes that train a run together: `python -m lora_backend.trainer.peer RUN_DIR [--bound] …`.

The run's agent starts it through torch's launcher, and it ends when the agent does. It writes a log of its own, and its entry in
the run's status; only the first of them writes what the run is.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_backend.i18n import Message
from lora_backend.installation import Installation, PeerPlace, this_installation
from lora_backend.machines.network import host_name
from lora_backend.modeling.lean import without_collections
from lora_backend.runs.processes.lease_queue import take_copies
from lora_backend.runs.processes.run_session import logging_to, said_of
from lora_backend.runs.record.failures import PEER_LOST, failure
from lora_backend.runs.record.locked_files import open_to_append
from lora_backend.runs.record.peer_documents import PeerProcess
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)
PR_SET_PDEATHSIG = 1
"""`prctl(2)`: which signal comes when the thread dies that started this process."""


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(prog="python -m lora_backend.trainer.peer")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bound", action="store_true")
    parser.add_argument("--accept-changed-data", action="store_true")
    arguments = parser.parse_args()
    installation = this_installation().around(arguments.folder)
    place, folder = installation.peer, RunStore(arguments.folder, installation.clock)
    if place is None:
        parser.error("started by the agent of a run only")
    end_with_agent(folder)
    take_copies()  # they are held by being open
    if place.rank:
        write_to_own_log(folder, place.rank)
    has_own_stderr = installation.is_supervised or place.rank > 0
    log = logging_to(folder.peer_log(place.rank), is_stderr=has_own_stderr)
    with log, saying_why(folder, installation, place):
        enter(folder, place)
        with without_collections():
            from lora_backend.peers.peers import joined  # torch: only now
            from lora_backend.trainer.direct_run import train_by_config

        with joined(place) as peers, saying_why(folder, installation, place):
            train_by_config(
                folder, installation, peers, bound=arguments.bound, accept_changed_data=arguments.accept_changed_data
            )
            leave(folder, place)


def end_with_agent(folder: RunStore) -> None:
    """Have the kernel end this process when its agent is dead, whatever it is in the middle of."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    agent = folder.read_status().attempt.trainer
    if agent is None or os.getppid() != agent.pid:  # it died before that was asked for
        sys.exit("the agent of this run is not there any more")


def write_to_own_log(folder: RunStore, rank: int) -> None:
    """All that this process and its libraries print goes to the log of its rank."""
    folder.peer_logs.mkdir(exist_ok=True)
    with open_to_append(folder.peer_log(rank)) as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)


def enter(folder: RunStore, place: PeerPlace) -> None:
    """Write down that this process is one of the run's."""
    device = f"cuda:{place.local_rank}" if folder.read_attempt().gpus else "cpu"
    entry = PeerProcess(
        rank=place.rank, node=place.node, host=host_name(), process=identify(os.getpid()), device=device
    )
    with folder.changing_status() as status:
        others = [peer for peer in status.attempt.peers if peer.rank != place.rank]
        status.attempt.peers = sorted([*others, entry], key=lambda peer: peer.rank)


def leave(folder: RunStore, place: PeerPlace) -> None:
    """Write down that this process is done; the first says how the run ended, unless that is said already."""
    with folder.changing_status() as status:
        status.attempt.peers = [
            peer.model_copy(update={"is_done": True}) if peer.rank == place.rank else peer
            for peer in status.attempt.peers
        ]
        if place.rank == 0:
            status.attempt.outcome = status.attempt.outcome or "finished"


@contextmanager
def saying_why(folder: RunStore, installation: Installation, place: PeerPlace) -> Iterator[None]:
    """Where the block fails this process says why, and is gone at once: to leave the others in order it would have to
    wait for them."""
    try:
        yield
    except BaseException as error:
        logger.exception("process %s failed", place.rank)
        said = said_of(error, folder, installation, lambda error: _explained(error, place))
        try:
            with folder.changing_status() as status:
                for peer in status.attempt.peers:
                    peer.failure = said if peer.rank == place.rank else peer.failure
        finally:
            logging.shutdown()
            os._exit(1)


def _explained(error: BaseException, place: PeerPlace) -> tuple[str, Message] | None:
    from lora_backend.peers.lost_contact import is_lost_contact
    from lora_backend.trainer.session import explain_torch

    if is_lost_contact(error):
        return PEER_LOST, failure(PEER_LOST, rank=place.rank).message
    return explain_torch(error)


if __name__ == "__main__":
    main()
