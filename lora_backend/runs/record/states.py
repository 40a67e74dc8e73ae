"""The states of a run: the one table of moves between them, and what files and processes say of it now."""

from __future__ import annotations

from dataclasses import dataclass

from lora_backend.errors import RunError
from lora_backend.i18n import N_, Message
from lora_backend.runs.record.documents import AttemptStatus, Exit, Status
from lora_backend.runs.record.failures import failure
from lora_backend.runs.record.process_identity import ProcessIdentity, boot_clock_s, boot_id, is_alive

ENDED = frozenset({"stopped", "finished", "failed", "lost"})
MOVES: dict[str | None, frozenset[str]] = {
    None: frozenset({"queued", "starting"}),  # the folder is made
    "queued": frozenset({"starting", "stopped", "failed"}),  # its turn has come, it was cancelled, it cannot start
    "starting": frozenset({"running", "stopping"}) | ENDED,
    "running": frozenset({"stopping"}) | ENDED,
    "stopping": ENDED,
    # Resumed, or started anew: another attempt.
    "stopped": frozenset({"queued", "starting"}),
    "finished": frozenset({"queued", "starting"}),
    "failed": frozenset({"queued", "starting"}),
    "lost": frozenset({"queued", "starting"}),
}
"""State → those that may follow it. `stopping` (a stop was asked for) and `lost` (no process is left and none said
why) are read off the folder and its processes; `status.json` never holds them."""
STATES = frozenset(state for state in MOVES if state)
AFTER_TRAINING = ("saving", "answering")
"""Stages in which no checkpoint is made any more."""
WITH_STEPS = ("first_step", "training")
"""Stages in which one is made after the next step; before them nothing is trained yet."""
START_GRACE_S = 30.0
"""How long a run may be without any process after it was started, before it counts as lost."""
ORPHANED_GRACE_S = 3.0
"""The same where whoever started it has died: a supervisor that it had begun by then has written itself down."""
NO_HEARTBEAT_S = 600.0
"""A living trainer that wrote nothing for so long is shown as silent. It is not ended: a large model may load, or one
step may take, longer than that."""


class StateError(RunError):
    """A run was told to go where its state does not lead."""

    code = "state"


def check_move(old: str | None, new: str) -> None:
    """Raise `StateError` where no move leads from `old` to `new`; to stay is no move."""
    if new not in STATES or (new != old and new not in MOVES.get(old, frozenset())):
        raise StateError(N_("A run that is {old} cannot become {new}."), old=old or "new", new=new)


@dataclass(frozen=True)
class RunState:
    """A run's state as it is now, judged by its files and its processes."""

    state: str
    stage: str | None = None
    """What the trainer is at: preparing, loading, data, training, saving, answering."""
    step: int = 0
    total_steps: int | None = None
    epoch: float | None = None
    eta_s: float | None = None
    fraction: float | None = None
    """How far a stage that counts no steps has come, from 0 to 1."""
    detail: Message | None = None
    """What the stage has to say of itself."""
    best_step: int | None = None
    """Of the best evaluation so far."""
    started_at: float | None = None
    """When the newest start's trainer began; None before, and of one that had none. Seconds since the epoch, as all times here."""
    ended_at: float | None = None
    cause: str | None = None
    """Why it failed, as a code."""
    message: Message | None = None
    remedy: Message | None = None
    """What to do about it."""
    silent_s: float | None = None
    """Since when a living trainer has written nothing, where that is longer than `NO_HEARTBEAT_S`."""

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


def judge(status: Status, ended: Exit | None, *, stop_requested: bool, disk_is_full: bool = False) -> RunState:
    """What is true now: an ended run says how; one without a living process ended as its trainer said, or is lost."""
    if ended:
        return _now(
            status, ended.state, ended_at=ended.ended_at, cause=ended.cause, message=ended.message, remedy=ended.remedy
        )
    if status.state == "queued":
        return _now(status, "queued")
    attempt = status.attempt
    trainer = attempt.trainer or attempt.child
    alive = [process for process in (trainer, attempt.supervisor) if process and is_alive(process)]
    if attempt.job and not attempt.job.is_over:  # its trainer is elsewhere: the cluster says when it is gone
        return _now(status, "stopping" if stop_requested else status.state or "starting")
    if trainer and trainer not in alive and disk_is_full and not attempt.outcome:
        return _failed(status, "failed", "disk_full")  # and so nobody could write it down
    if alive:
        state = "stopping" if stop_requested else status.state or "starting"
        return _now(status, state, silent_s=_silent_s(status) if trainer in alive else None)
    if not (trainer or attempt.supervisor) and _is_fresh(attempt):
        return _now(status, "starting")
    return _without_process(status, trainer or attempt.supervisor)


def _without_process(status: Status, last: ProcessIdentity | None) -> RunState:
    attempt = status.attempt
    if attempt.outcome:
        return _now(status, attempt.outcome)
    if attempt.failure:
        return _now(status, "failed", cause=attempt.failure.cause, message=attempt.failure.message)
    boot = last.boot_id if last else attempt.launched.boot_id if attempt.launched else None
    return _failed(status, "lost", "reboot" if boot not in (None, boot_id()) else "lost")


def _failed(status: Status, state: str, cause: str) -> RunState:
    found = failure(cause)
    return _now(status, state, cause=cause, message=found.message, remedy=found.remedy)


def _is_fresh(attempt: AttemptStatus) -> bool:
    moment, launcher = attempt.launched, attempt.launcher
    if moment is None or moment.boot_id != boot_id():
        return False
    grace_s = START_GRACE_S if launcher is None or is_alive(launcher) else ORPHANED_GRACE_S
    return boot_clock_s() - moment.boot_clock_s < grace_s


def _silent_s(status: Status) -> float | None:
    written = status.updated_boot_clock_s
    silent_s = 0.0 if written is None else boot_clock_s() - written
    return silent_s if silent_s > NO_HEARTBEAT_S else None


def _now(
    status: Status,
    state: str,
    *,
    ended_at: float | None = None,
    cause: str | None = None,
    message: Message | None = None,
    remedy: Message | None = None,
    silent_s: float | None = None,
) -> RunState:
    attempt = status.attempt
    return RunState(
        state,
        stage=attempt.stage,
        step=status.step,
        total_steps=status.total_steps or None,
        epoch=status.epoch,
        eta_s=attempt.eta_s,
        fraction=attempt.fraction,
        detail=attempt.detail,
        best_step=attempt.best_step,
        started_at=status.started_at if status.attempt.trainer else None,
        ended_at=ended_at,
        cause=cause,
        message=message,
        remedy=remedy,
        silent_s=silent_s,
    )
