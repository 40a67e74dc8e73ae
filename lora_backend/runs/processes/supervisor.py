"""The light process beside each trainer: starts or adopts it, enforces a stop's deadline, writes how it ended.

`python -m lora_backend.runs.processes.supervisor RUN_DIR [--adopt ENDS] [LEASE_DESCRIPTOR …]`. It holds no torch. It and its trainer have sessions
of their own, so that nothing which happens to the dashboard reaches them.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lora_backend.errors import RunError
from lora_backend.installation import SUPERVISED, WAIT_POLICY, Installation, child_environment, this_installation
from lora_backend.os_errors import in_words
from lora_backend.runs.processes.lease_queue import queue_of
from lora_backend.runs.processes.leases import Lease, lock_once
from lora_backend.runs.processes.leftovers import RUN_MARK, end_leftovers
from lora_backend.runs.processes.run_end import say_in_log, write_end, write_failure
from lora_backend.runs.processes.trainer_command import command_of, environment_of
from lora_backend.runs.record.documents import AttemptStatus
from lora_backend.runs.record.failures import Failure, failure, oom_kills
from lora_backend.runs.record.locked_files import LOCK_TIMEOUT_S, open_to_append
from lora_backend.runs.record.process_identity import (
    ProcessIdentity,
    identify,
    is_alive,
    let_go,
    marked,
    signal_process,
    wait_for_end,
)
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import name_supervisor
from lora_backend.terminal import log_to_stderr

logger = logging.getLogger(__name__)
SHARED_CORES = {WAIT_POLICY: "PASSIVE"}
"""Where nobody says otherwise. A trainer shares its cores with the dashboard, a browser and more. Beside a second training on two cores, threads that
spin while they wait left it 15 tokens/s, sleeping ones 85. On an idle machine sleeping costs 2 % of large products and
a quarter of the speed of answering; who has the machine alone sets OMP_WAIT_POLICY=ACTIVE."""
TICK_S = 0.25
KILL_AFTER_S = 10.0
"""Between SIGTERM and SIGKILL."""
GONE_AFTER_TICKS = 20
"""A folder must be away for so long before its run is ended; a network drive may come back."""


def start_supervisor(
    folder: RunStore, leases: Sequence[Lease] = (), *, adopt: bool = False, num_ends: int | None = None
) -> int:
    """Start a run's supervisor, detached, and hand it the leases. Returns its pid.

    `adopt`: of a run whose supervisor has died. It watches what is left, and starts nothing: it has no lease.
    `num_ends`: how often the run had ended when it was judged, if not now.
    """
    num_ends = folder.num_ends() if num_ends is None else num_ends
    descriptors = [lease.descriptor for lease in leases]
    with open_to_append(folder.supervisor_log) as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "lora_backend.runs.processes.supervisor",
                str(folder.path),
                *(["--adopt", str(num_ends)] if adopt else []),
                *map(str, descriptors),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=descriptors,
            env=detached_environment(),
        )
    pid = let_go(process)
    if identity := identify(pid):
        name_supervisor(folder, identity, num_ends)
    return pid


def detached_environment() -> dict[str, str]:
    """For a process that belongs to no run, even where one of a run starts it."""
    return {name: value for name, value in child_environment().items() if name not in (RUN_MARK, SUPERVISED)}


def supervise(
    folder: RunStore,
    installation: Installation,
    descriptors: Sequence[int] = (),
    count_oom_kills: Callable[[], int] = oom_kills,
    *,
    adopt: bool = False,
    num_ends: int | None = None,
) -> None:
    """See a run to its end and write `exit.json`: adopt the trainer that there is, else start the one it names.

    Returns at once where the run has ended or another supervisor sees to it. `descriptors` are leases to pass on.
    `num_ends`: how often the run had ended when this was asked for; a run that has been resumed since has a supervisor
    of its own, and the end of the attempt before is none of the new one's.
    """
    try:
        lock = lock_once(folder.supervisor_lock)
    except FileNotFoundError:
        logger.info("run %s was deleted before it was seen to", folder.id)
        return
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while lock is None and not adopt and time.monotonic() < deadline:
        time.sleep(0.02)  # the supervisor of the attempt before has written the end and is about to leave
        lock = lock_once(folder.supervisor_lock)
    if lock is None:
        return
    try:
        num_ends = folder.num_ends() if num_ends is None else num_ends
        if _is_over(folder, num_ends):
            return
        identity = identify(os.getpid())
        with folder.changing_status() as status:
            status.attempt.supervisor = identity
        if cluster := folder.read_attempt().cluster:
            from lora_backend.runs.processes.cluster_job import see_to_job  # no other supervisor needs its memory

            see_to_job(folder, installation, cluster, num_ends, adopt=adopt)
            return
        trainer = _trainer_of(folder, status.attempt, adopt=adopt)
        if trainer is None and adopt:
            if not _is_over(folder, num_ends):
                write_end(folder, None, num_ends)
        elif trainer is None:
            end_leftovers(folder)
            _start_and_watch(folder, installation, descriptors, count_oom_kills, num_ends)
        else:
            logger.info("adopting trainer %s", trainer.pid)
            forced, oom_killed = _watch(folder, trainer, count_oom_kills)
            _end(folder, descriptors, None, forced, oom_killed, num_ends)
    finally:
        os.close(lock)


def _is_over(folder: RunStore, num_ends: int) -> bool:
    """Whether the attempt has ended that a supervisor was asked to see to."""
    # In this order: an end that is moved away between the two is then counted.
    return folder.read_exit() is not None or folder.num_ends() != num_ends


def _trainer_of(folder: RunStore, attempt: AttemptStatus, *, adopt: bool) -> ProcessIdentity | None:
    """What there is to adopt: the process that was started for the run, else the one that says it trains (a launcher
    is the first and not the second); only where neither was written down, one that was started a moment before.

    Beside a trainer that is known and dead, or before one is started, what bears the run's mark is what another left:
    to wait for that would be for ever.
    """
    known = [identity for identity in (attempt.child, attempt.trainer) if identity]
    if not known:
        return next(marked(RUN_MARK, str(folder.path)), None) if adopt else None
    return next((identity for identity in known if is_alive(identity)), known[0])


def _start_and_watch(
    folder: RunStore,
    installation: Installation,
    descriptors: Sequence[int],
    count_oom_kills: Callable[[], int],
    num_ends: int,
) -> None:
    try:
        handed_on = descriptors if folder.read_attempt().num_peers > 1 else ()  # by an agent, to those that it starts
        with open_to_append(folder.train_log) as log, queue_of(handed_on) as leases:
            child = subprocess.Popen(
                command_of(folder, installation),
                stdin=leases.fileno() if handed_on else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=tuple(descriptors),
                env=child_environment(
                    **{SUPERVISED: "1", RUN_MARK: str(folder.path), "PYTHONUNBUFFERED": "1"},
                    **{name: installation.environment.get(name, value) for name, value in SHARED_CORES.items()},
                    **environment_of(folder),
                ),
            )
    except (OSError, RunError) as error:
        reason = error.message if isinstance(error, RunError) else in_words(error, installation.workspace).message
        write_failure(folder, failure("start", reason=reason), None, num_ends)
        return
    trainer = identify(child.pid)
    assert trainer is not None  # a child stays at least as a zombie until it is waited for
    with folder.changing_status() as status:
        status.attempt.child = trainer
    forced, oom_killed = _watch(folder, trainer, count_oom_kills)
    _end(folder, descriptors, child.wait(), forced, oom_killed, num_ends)


def _watch(
    folder: RunStore, trainer: ProcessIdentity, count_oom_kills: Callable[[], int]
) -> tuple[Failure | None, bool]:
    """Wait for a trainer's end. Why it had to be ended from here, if so; and whether the kernel killed for memory then."""
    stop_seen: float | None = None
    forced: Failure | None = None
    kill_at: float | None = None
    missing = 0
    kills = [count_oom_kills()] * 8  # of the last two seconds: of a long run, others may have died in the meantime
    while not wait_for_end(trainer, TICK_S):
        kills = [*kills[1:], count_oom_kills()]
        now = time.monotonic()
        missing = missing + 1 if not folder.path.exists() else 0
        if kill_at is not None:
            if now >= kill_at:
                say_in_log(folder, "the trainer did not end within %g s after SIGTERM: SIGKILL", KILL_AFTER_S)
                if forced and forced.cause == "stop_deadline":
                    forced = failure("stop_deadline", **{**forced.message.values, "signal": "SIGKILL"})
                signal_process(trainer, signal.SIGKILL)
                kill_at = float("inf")
            continue
        if missing >= GONE_AFTER_TICKS:
            forced = failure("folder_gone")
        elif request := folder.read_stop_request():
            stop_seen = now if stop_seen is None else stop_seen
            deadline_s = request.deadline_s
            if now - stop_seen >= deadline_s:
                say_in_log(
                    folder, "the trainer did not end within %g s after the stop was asked for: SIGTERM", deadline_s
                )
                forced = failure("stop_deadline", deadline_s=round(deadline_s), signal="SIGTERM")
        if forced:
            signal_process(trainer, signal.SIGTERM)
            kill_at = now + KILL_AFTER_S
    return forced, count_oom_kills() > kills[0]


def _end(
    folder: RunStore,
    descriptors: Sequence[int],
    returncode: int | None,
    forced: Failure | None,
    oom_killed: bool,
    num_ends: int,
) -> None:
    if folder.num_ends() != num_ends:  # what bears the run's mark now is another start's
        return
    end_leftovers(folder)
    for descriptor in descriptors:  # the end may have to wait for room on the disk; the GPU need not
        os.close(descriptor)
    write_end(folder, returncode, num_ends, forced=forced, oom_killed=oom_killed)


def main() -> None:
    """Entry of the process."""
    log_to_stderr()
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each look at a job of Ray's
    path, *words = sys.argv[1:]
    adopt = words[:1] == ["--adopt"]
    num_ends = int(words[1]) if adopt else None
    installation = this_installation().around(Path(path))
    folder, descriptors = RunStore(Path(path), installation.clock), [int(word) for word in words[2 * adopt :]]
    supervise(folder, installation, descriptors, adopt=adopt, num_ends=num_ends)


if __name__ == "__main__":
    main()
