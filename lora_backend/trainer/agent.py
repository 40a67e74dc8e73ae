"""The agent of a run of several processes: torch's elastic launcher starts them, and this waits for what becomes of them.

It stands where the trainer of a run alone would stand: it begins the run, hears its signals, and says how it ended. The
launcher sees who fails first and ends the others; it starts none anew, for a run goes on from a checkpoint.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from dataclasses import dataclass

from torch.distributed.elastic.multiprocessing.api import LogsDest, LogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lora_backend.installation import Installation, child_environment
from lora_backend.runs.processes.lease_queue import on_stdin
from lora_backend.runs.processes.leftovers import RUN_MARK, end_leftovers
from lora_backend.runs.processes.own_lease import leased
from lora_backend.runs.processes.peer_end import PeerFailedError, first_to_fail, without_a_word
from lora_backend.runs.processes.run_session import run_session
from lora_backend.runs.processes.supervisor import KILL_AFTER_S, TICK_S
from lora_backend.runs.record.failures import oom_kills
from lora_backend.runs.record.peer_documents import PeerProcess
from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)
PEER_MODULE = "lora_backend.trainer.peer"
THIS_MACHINE = "127.0.0.1"
MEET_WITHIN_S = 900
"""How long machines wait for one another."""


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a run find one another."""

    num_processes: int
    """On this machine."""
    num_nodes: int = 1
    node: int = 0
    """This machine, from 0; the first serves the others."""
    endpoint: str = f"{THIS_MACHINE}:0"
    """Host and port of the first machine; port 0: any that is free, where there is one machine."""
    run_id: str = ""
    """By which machines know that they mean the same; of one machine the run's."""


def train_together(
    folder: RunStore, installation: Installation, meeting: Meeting, *, bound: bool, accept_changed_data: bool
) -> None:
    """Be the trainer of a run that several processes train. `bound`, `accept_changed_data`: as of `train_in_folder`.

    Raises `PeerFailedError` with the failure of the first that failed, `StoppedNowError` after a second signal; no
    process is left either way.
    """
    words = [*(["--bound"] if bound else []), *(["--accept-changed-data"] if accept_changed_data else [])]
    command = ["-m", PEER_MODULE, str(folder.path), *words]
    with (
        run_session(folder, installation),
        leased(folder, installation, for_peers=True) as leases,
        on_stdin([lease.descriptor for lease in leases]),
    ):
        logger.info("%s processes train together", meeting.num_processes * meeting.num_nodes)
        kills = oom_kills()
        ended = _watched(folder, meeting, command)
        attempt = folder.read_status().attempt
        if attempt.outcome:  # the first has written it when all was done
            if ended:
                logger.warning("processes failed when the run was over: %s", ended)
        elif ended or without_a_word(attempt, meeting.node):
            oom_killed = oom_kills() > kills
            raise PeerFailedError(first_to_fail(folder, ended, node=meeting.node, oom_killed=oom_killed))
    logger.info("run %s ended: %s", folder.id, folder.path)


def _watched(folder: RunStore, meeting: Meeting, command: list[str]) -> dict[int, int]:
    """Start the processes and wait until all have ended. Return codes of those that failed, by rank, the first first.

    The launcher has a thread of its own: signals are heard in this one.
    """
    launching = _Launching(folder, meeting, command)
    launching.start()
    kill_at: float | None = None
    try:
        while launching.is_alive():
            launching.join(TICK_S)
            if kill_at is None:
                kill_at = time.monotonic() + KILL_AFTER_S if _one_has_failed(folder, meeting.node) else None
            elif time.monotonic() >= kill_at:
                logger.warning("the others did not end within %g s after SIGTERM: SIGKILL", KILL_AFTER_S)
                end_leftovers(folder)
                kill_at = float("inf")
    finally:
        if launching.is_alive():  # stopped at once
            end_leftovers(folder)
            launching.join(KILL_AFTER_S)
    if launching.error is not None:
        raise launching.error
    return launching.ended


def _one_has_failed(folder: RunStore, node: int) -> bool:
    return any(_has_failed(peer) for peer in folder.read_status().attempt.peers if peer.node == node)


def _has_failed(peer: PeerProcess) -> bool:
    return not peer.is_done and peer.process is not None and not is_alive(peer.process)


class _Launching(threading.Thread):
    """The launcher, until all that it started has ended."""

    def __init__(self, folder: RunStore, meeting: Meeting, command: list[str]) -> None:
        super().__init__(daemon=True)
        self.ended: dict[int, int] = {}
        self.error: BaseException | None = None
        self._command = command
        is_alone = meeting.num_nodes == 1
        self._config = LaunchConfig(
            min_nodes=meeting.num_nodes,
            max_nodes=meeting.num_nodes,
            nproc_per_node=meeting.num_processes,
            run_id=meeting.run_id or folder.id,
            # Several machines are numbered by hand, for the run's files are on the first.
            rdzv_backend="c10d" if is_alone else "static",
            rdzv_endpoint=meeting.endpoint,
            rdzv_configs={"timeout": MEET_WITHIN_S} | ({} if is_alone else {"rank": meeting.node}),
            local_addr=THIS_MACHINE if is_alone else None,
            max_restarts=0,
            logs_specs=_OwnLogs(_environment(folder, meeting)),
            shutdown_timeout=int(KILL_AFTER_S),
        )

    def run(self) -> None:
        # What it says of signals it cannot hear in a thread, and of failures, is said better here.
        for name in ("agent.server.api", "agent.server.local_elastic_agent", "multiprocessing.api"):
            logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
        try:
            elastic_launch(self._config, sys.executable)(*self._command)
        except ChildFailedError as error:
            self.ended = {rank: failure.exitcode for rank, failure in error.failures.items()}
        except BaseException as error:  # told by who waits
            self.error = error


class _OwnLogs(LogsSpecs):
    """Each process opens its log itself, for the launcher would begin it anew. Before that it writes where this one does."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__()
        self._environment = environment

    @property
    def root_log_dir(self) -> str:
        return ""

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        for environment in envs.values():
            environment |= self._environment | environment
        nowhere = dict.fromkeys(envs, "")
        return LogsDest(stdouts=nowhere, stderrs=nowhere, error_files=dict.fromkeys(envs, os.devnull))


def _environment(folder: RunStore, meeting: Meeting) -> dict[str, str]:
    """What the processes are told beside the launcher's own words, which win."""
    num_threads = max(1, len(os.sched_getaffinity(0)) // meeting.num_processes)
    return {
        RUN_MARK: str(folder.path),
        "PYTHONPATH": child_environment()["PYTHONPATH"],
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(num_threads),
        **({"GLOO_SOCKET_IFNAME": "lo"} if meeting.num_nodes == 1 else {}),
    }
