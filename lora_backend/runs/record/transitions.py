"""How a run goes from one state to another: made, begun, moved, trained, asked to stop, ended. `states.py` has the table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lora_backend.atomic import filling, write_atomic, write_json
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.os_errors import in_words
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import (
    STOP_DEADLINE_S,
    AttemptStatus,
    Exit,
    Kind,
    LaunchMoment,
    RunRecord,
    SaveRequest,
    StopRequest,
    WrittenState,
)
from lora_backend.runs.record.failures import failure
from lora_backend.runs.record.process_identity import ProcessIdentity, boot_clock_s, boot_id, identify, is_alive
from lora_backend.runs.record.provenance import provenance, system_user
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.seal import seal_of
from lora_backend.runs.record.states import StateError, check_move
from lora_backend.runs.record.unlinked import refuse_links


@dataclass(frozen=True)
class NewRun:
    """What a run is made of."""

    config: dict[str, Any]
    """As it runs, paths bound."""
    config_text: str
    """As its user wrote it."""
    argv: Sequence[str] | None
    """The command of the process that does it; None where this process does, on batches of its own."""
    kind: Kind = "train"
    actor: str | None = None
    """None: the system's user."""
    data_sha256: str | None = None
    name: str | None = None
    state: WrittenState = "starting"
    attempt: Attempt | None = None
    """What is known of its first start."""


def create(path: Path, new: NewRun, installation: Installation) -> RunStore:
    """Make the folder of a run at `path`. `RunError` where one already stands there."""
    run = RunStore(path, installation.clock)
    refuse_links(path)
    made_by = provenance()  # before the lock: git may take its time
    with filling(path), run.writing():
        if run.run_json.exists():
            raise RunError(N_("There is already a run in {path}. Choose another folder."), path=str(path))
        write_atomic(run.config_yaml, new.config_text)
        with run.changing_status_locked() as status:
            status.state, status.created_at = new.state, run.clock()
            status.attempt.launched = launch_moment()
        if new.attempt is not None:
            add_attempt(run, new.attempt)
        argv = None if new.argv is None else list(new.argv)
        record = RunRecord(
            id=run.id,
            kind=new.kind,
            name=new.name,
            created_at=run.clock(),
            actor=new.actor or system_user(),
            config=new.config,
            argv=argv,
            argv_seal=seal_of(path, argv, installation.seal_key),
            data_sha256=new.data_sha256,
            **made_by,
        )
        write_json(run.run_json, record.to_json())  # last: from here on whoever looks may start it
    return run


def launch_moment() -> LaunchMoment:
    """Now, as the start of a run."""
    return LaunchMoment(boot_id=boot_id(), boot_clock_s=boot_clock_s())


# --------------------------------------------------------------------------------------------- starts


def begin_attempt(run: RunStore, state: WrittenState, attempt: Attempt, *, after: int | None = None) -> int:
    """Start a run that has ended anew: its end goes to the attempts, requests are taken back. Returns the number.

    `after` is the number of the start that the caller has looked at. `StateError` where there has been another
    since, or where the run has not ended: of two who resume it at once, one does.
    """
    with run.writing():
        # Looked at again under the lock: what was true before may be what another has just changed.
        run.read_record()  # it may have been deleted
        refuse_links(run.path)
        before = run.state()
        if not before.has_ended:
            raise StateError(N_("Run {id} has not ended, so it cannot be resumed."), id=run.id)
        _refuse_another_than(run, after)
        check_move(before.state, state)
        if run.read_exit() is None:  # its processes are gone, and none was left to write it
            _write_exit(run, Exit.of(before.state, cause=before.cause, message=before.message, remedy=before.remedy))
        number = add_attempt(run, attempt)
        for request in (run.stop_request, run.save_request):
            request.unlink(missing_ok=True)
        with run.changing_status_locked() as status:
            status.state, status.attempt = state, AttemptStatus(launched=launch_moment())
        run.exit_json.replace(run.attempt_exit_json(number - 1))  # from here on it is a run that goes on
        return number


def add_attempt(run: RunStore, attempt: Attempt) -> int:
    """Write down another start of the run; returns its number, counted from 1."""
    number = run.newest_number() + 1
    run.write_attempt_file(attempt.model_copy(update={"number": number, "time": run.clock()}))
    return number


def replan(run: RunStore, attempt: Attempt, *, after: int | None = None) -> int:
    """Write down another plan for a run that waits. `StateError` where it waits no more, or as in `move`."""
    with run.writing():
        if run.read_exit() is not None or run.read_status().state != "queued":
            raise StateError(N_("Run {id} is no longer waiting, so its GPUs cannot be changed."), id=run.id)
        _refuse_another_than(run, after)
        return add_attempt(run, attempt)


def move(
    run: RunStore,
    old: WrittenState,
    new: WrittenState,
    *,
    number: int | None = None,
    launcher: ProcessIdentity | None = None,
) -> None:
    """Take a run from `old` to `new` if nobody else has: `StateError` where it is not (any more) in `old`.

    `number` is that of the attempt that the caller has looked at: `StateError` where there is another since. It stands
    in no queue any more; `launcher` is who will start its supervisor.
    """
    with run.writing():
        ended = run.read_exit()
        found = ended.state if ended else run.read_status().state
        if found != old:
            raise StateError(N_("Run {id} is {found}, not {old}."), id=run.id, found=str(found), old=old)
        _refuse_another_than(run, number)
        with run.changing_status_locked() as status:
            status.state = new
            status.attempt.launched, status.attempt.queue = launch_moment(), None
            status.attempt.launcher = launcher


def _refuse_another_than(run: RunStore, number: int | None) -> None:
    if number not in (None, run.newest_number()):
        raise StateError(N_("Run {id} was resumed or planned again in the meantime. Reload it."), id=run.id)


# ------------------------------------------------------------------------------------------ processes


def name_supervisor(run: RunStore, started: ProcessIdentity, num_ends: int) -> None:
    """Name the supervisor that was started for a start of the run; one that is named and lives stays."""
    with run.writing():
        named = run.read_status().attempt.supervisor
        if run.num_ends() == num_ends and not (named and is_alive(named)):
            with run.changing_status_locked() as status:
                status.attempt.supervisor = started


def begin_training(run: RunStore) -> None:
    """Make this process the run's trainer. `RunError` where another is, or was started to be."""
    refuse_links(run.path)
    with run.writing():
        refuse_another_trainer(run)
        with run.changing_status_locked() as status:
            status.state, status.started_at = "running", run.clock()
            attempt = status.attempt
            attempt.trainer = identify(os.getpid())
            # One that began this start before may have left how it ended.
            attempt.outcome = attempt.outcome_cause = attempt.outcome_message = attempt.failure = None
            attempt.peers = []


def refuse_another_trainer(run: RunStore) -> None:
    """Raise `RunError` where a living process other than this one trains the run, or was started to."""
    me, attempt = os.getpid(), run.read_status().attempt
    # What a supervisor has started may be a launcher, below which this process trains.
    ours = ((attempt.trainer, {me}), (attempt.child, {me, *(parent.pid for parent in psutil.Process().parents())}))
    for found, pids in ours:
        if found and found.pid not in pids and is_alive(found):
            raise RunError(
                N_("Process {pid} is training the run in {path}. Stop it first, or choose another folder."),
                path=str(run.path),
                pid=found.pid,
            )


# ------------------------------------------------------------------------------------------------ ends


def end(run: RunStore, how: Exit, *, num_ends: int | None = None) -> None:
    """End the run. The first end stands; a second is not written.

    `num_ends`: of the start before which it had ended so many times; no end of one start is written to the next.
    """
    with run.writing():
        if num_ends is None or run.num_ends() == num_ends:
            _write_exit(run, how)


def _write_exit(run: RunStore, how: Exit) -> None:
    if run.read_exit() is not None:
        return
    status = run.read_status()
    if status.state:
        check_move(status.state, how.state)
    how.started_at = status.started_at if status.attempt.trainer else None
    how.ended_at = run.clock()
    write_json(run.exit_json, how.to_json())


def request_stop(run: RunStore, actor: str | None = None, deadline_s: float = STOP_DEADLINE_S) -> None:
    """Ask the trainer to save a checkpoint and end at its next step, within `deadline_s`; a queued run just ends."""
    run.read_record()
    actor = actor or system_user()
    with _saying_why(run), run.writing():
        # Judged and written under one lock, so that no request is left to a start that comes after.
        if run.read_exit() is not None:
            return
        if run.read_status().state == "queued":
            _write_exit(run, Exit.of("stopped", cause="cancelled", message=failure("cancelled").message, actor=actor))
        else:
            write_json(run.stop_request, StopRequest(actor=actor, time=run.clock(), deadline_s=deadline_s).to_json())


def request_save(run: RunStore, actor: str | None = None) -> None:
    """Ask the trainer for a checkpoint after its next step, and to go on."""
    run.read_record()
    with _saying_why(run), run.writing():
        if run.state().has_ended or run.read_status().state == "queued":
            raise StateError(N_("Run {id} is not training, so there is nothing to save."), id=run.id)
        write_json(run.save_request, SaveRequest(actor=actor or system_user(), time=run.clock()).to_json())


@contextmanager
def _saying_why(run: RunStore) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        said = in_words(error, run.workspace).message
        raise RunError(said.template, **said.values) from error
