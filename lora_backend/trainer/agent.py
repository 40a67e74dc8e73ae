"""The agent of a run of several processes: torch's elastic launcher starts them, and this waits for what becomes of them.

It stands where the trainer of a run alone would stand: it begins the run, hears its signals, and says how it ended. The
launcher sees who fails first and ends the others; it starts none anew, for a run goes on from a checkpoint. Where several
machines train, each has one, and they keep one another informed (`lora_backend.machines`).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from dataclasses import dataclass, replace

from torch.distributed.elastic.multiprocessing.api import LogsDest, LogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lora_backend.installation import Installation, child_environment
from lora_backend.machines.company import Company
from lora_backend.machines.machine_messages import LastWord
from lora_backend.runs.processes.lease_queue import on_stdin
from lora_backend.runs.processes.leftovers import RUN_MARK, end_leftovers
from lora_backend.runs.processes.own_lease import leased
from lora_backend.runs.processes.peer_end import Fallen, PeerFailedError, first_to_fail, without_a_word
from lora_backend.runs.processes.run_session import run_session
from lora_backend.runs.processes.supervisor import KILL_AFTER_S, TICK_S
from lora_backend.runs.record.failures import oom_kills
from lora_backend.runs.record.peer_documents import PeerProcess
from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore
from lora_backend.trainer.resolved_again import resolved_again
from lora_backend.trainer.with_machines import met, settled

logger = logging.getLogger(__name__)
PEER_MODULE = "lora_backend.trainer.peer"
THIS_MACHINE = "127.0.0.1"
STORE_WITHIN_S = 300
"""How long launchers wait for one another, which have all said that they begin."""
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""Variables that say over which network the processes talk; who has set one knows better."""


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a run find one another."""

    num_processes: int
    """On this machine."""
    num_nodes: int = 1
    node: int = 0
    """This machine, from 0; the first serves the others."""
    endpoint: str = f"{THIS_MACHINE}:0"
    """Host and port of torch's store on the first machine; port 0: any that is free, where there is one machine."""
    run_id: str = ""
    """By which the launchers of several machines know that they mean the same; of one machine the run's."""
    interface: str | None = "lo"
    """Of the network over which the processes talk; None: as torch finds it."""

    @property
    def is_alone(self) -> bool:
        """Whether one machine trains."""
        return self.num_nodes == 1


def train_together(
    folder: RunStore, installation: Installation, meeting: Meeting, *, bound: bool, accept_changed_data: bool
) -> None:
    """Be the trainer of a run that several processes train, on this machine or on several. `bound`, `accept_changed_data`: as of
    `train_in_folder`.

    Raises `PeerFailedError` with the failure of the first that failed, `MachinesError` where the machines do not come
    together, `StoppedNowError` after a second signal; no process is left either way.
    """
    words = [*(["--bound"] if bound else []), *(["--accept-changed-data"] if accept_changed_data else [])]
    command = ["-m", PEER_MODULE, str(folder.path), *words]
    with (
        run_session(folder, installation),
        leased(folder, installation, for_peers=True) as leases,
        on_stdin([lease.descriptor for lease in leases]),
    ):
        logger.info("%s processes train together", meeting.num_processes * meeting.num_nodes)
        if not meeting.is_alone:
            resolved = resolved_again(folder, installation, bound=bound)
            with met(folder, resolved) as company:
                if company is not None:
                    store = company.store
                    place = replace(meeting, endpoint=store.endpoint, run_id=store.run_id, interface=store.interface)
                    settled(folder, company.settle(_last_word(folder, place, command, company)))
        elif (fallen := _watched(folder, meeting, command)) is not None:
            raise PeerFailedError(fallen.said)
    logger.info("run %s ended: %s", folder.id, folder.path)


def _last_word(folder: RunStore, meeting: Meeting, command: list[str], company: Company) -> LastWord:
    """Train on this machine, and say how that ended."""
    fallen = _watched(folder, meeting, command, company)
    if fallen is None:
        return LastWord()
    age_s = max(0.0, folder.clock() - (fallen.said.time or folder.clock()))
    return LastWord(failure=fallen.said, follows=fallen.follows, age_s=age_s)


def _watched(folder: RunStore, meeting: Meeting, command: list[str], company: Company | None = None) -> Fallen | None:
    """Start the processes and wait until all have ended. Which of them failed first; None where none has.

    The launcher has a thread of its own: signals are heard in this one.
    """
    launching, kills = _Launching(folder, meeting, command), oom_kills()
    launching.start()
    kill_at: float | None = None
    is_from_here = False
    try:
        while launching.is_alive():
            launching.join(TICK_S)
            has_failed = _one_has_failed(folder, meeting.node)
            if company is not None:
                company.tick(has_failed=has_failed)
            has_fallen = company is not None and company.has_fallen
            if kill_at is None:
                kill_at = time.monotonic() + KILL_AFTER_S if has_failed or has_fallen else None
            elif time.monotonic() >= kill_at and has_fallen and is_from_here:
                break  # it waits for launchers that have gone
            elif time.monotonic() >= kill_at:
                logger.warning("the others did not end within %g s: SIGKILL", KILL_AFTER_S)
                is_from_here = has_fallen and not has_failed
                end_leftovers(folder)
                kill_at = time.monotonic() + KILL_AFTER_S if is_from_here else float("inf")
    finally:
        if launching.is_alive():  # stopped at once
            end_leftovers(folder)
            launching.join(KILL_AFTER_S)
    if launching.error is not None and not is_from_here:
        raise launching.error
    return _fallen(folder, launching.ended, meeting.node, oom_killed=oom_kills() > kills, from_here=is_from_here)


def _fallen(folder: RunStore, ended: dict[int, int], node: int, *, oom_killed: bool, from_here: bool) -> Fallen | None:
    attempt = folder.read_status().attempt
    if attempt.outcome:  # the first has written it when all was done
        if ended:
            logger.warning("processes failed when the run was over: %s", ended)
        return None
    if ended or without_a_word(attempt, node):
        return first_to_fail(folder, ended, node=node, oom_killed=oom_killed, from_here=from_here)
    return None


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
        is_alone = meeting.is_alone
        self._config = LaunchConfig(
            min_nodes=meeting.num_nodes,
            max_nodes=meeting.num_nodes,
            nproc_per_node=meeting.num_processes,
            run_id=meeting.run_id or folder.id,
            # Several machines are numbered by hand, for the run's files are on the first.
            rdzv_backend="c10d" if is_alone else "static",
            rdzv_endpoint=meeting.endpoint,
            rdzv_configs={"timeout": STORE_WITHIN_S} | ({} if is_alone else {"rank": meeting.node}),
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
    num_threads, given = max(1, len(os.sched_getaffinity(0)) // meeting.num_processes), child_environment()
    ways = INTERFACES[:1] if meeting.is_alone else [name for name in INTERFACES if not given.get(name)]
    exactly = {"NCCL_SOCKET_IFNAME": f"={meeting.interface}"}  # without the sign it takes all that begin so
    return {
        RUN_MARK: str(folder.path),
        "PYTHONPATH": given["PYTHONPATH"],
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(num_threads),
        **({name: exactly.get(name, meeting.interface) for name in ways} if meeting.interface else {}),
    }
