"""The states of a run: the one table of moves between them, and what files and processes say of it now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora_backend.errors import RunError
from lora_backend.i18n import N_, Message
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
    started_at: float | None = None
    """Seconds since the epoch, as all times here."""
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


def judge(
    status: Mapping[str, Any], ended: Mapping[str, Any] | None, *, stop_requested: bool, disk_is_full: bool = False
) -> RunState:
    """What is true now: an ended run says how; one without a living process ended as its trainer said, or is lost."""
    if ended:
        state = ended.get("state")
        return _run_state({**status, **ended}, state if isinstance(state, str) and state in ENDED else "lost")
    if status.get("state") == "queued":
        return _run_state(status, "queued")
    trainer = identity_in(status, "trainer") or identity_in(status, "child")
    supervisor = identity_in(status, "supervisor")
    alive = [process for process in (trainer, supervisor) if process and is_alive(process)]
    if trainer and trainer not in alive and disk_is_full and not status.get("outcome"):
        return _failed(status, "failed", "disk_full")  # and so nobody could write it down
    if alive:
        written = status.get("state")
        state = (
            "stopping" if stop_requested else written if isinstance(written, str) and written in STATES else "starting"
        )
        return _run_state({**status, "silent_s": _silent_s(status) if trainer in alive else None}, state)
    if not (trainer or supervisor) and _is_fresh(status):
        return _run_state(status, "starting")
    return _without_process(status, trainer or supervisor)


def identity_in(status: Mapping[str, Any], role: str) -> ProcessIdentity | None:
    """The process that `status.json` names: the `supervisor`, its `child`, the `trainer`, which may be a child's, and the
    `launcher` that starts the supervisor."""
    try:
        return ProcessIdentity.from_json(status[role])
    except (KeyError, TypeError, ValueError):
        return None


def launch_moment() -> dict[str, Any]:
    """When a run was started, on a clock that nobody sets."""
    return {"boot_id": boot_id(), "boot_clock_s": boot_clock_s()}


def _without_process(status: Mapping[str, Any], last: ProcessIdentity | None) -> RunState:
    if status.get("outcome") in ("finished", "stopped"):
        return _run_state(status, str(status["outcome"]))
    said = status.get("failure")
    if isinstance(said, dict):
        return _run_state({**status, **said}, "failed")
    moment = status.get("launched")
    boot = last.boot_id if last else moment.get("boot_id") if isinstance(moment, dict) else None
    return _failed(status, "lost", "reboot" if boot not in (None, boot_id()) else "lost")


def _failed(status: Mapping[str, Any], state: str, cause: str) -> RunState:
    found = failure(cause)
    return _run_state({**status, "cause": cause, "message": found.message, "remedy": found.remedy}, state)


def _is_fresh(status: Mapping[str, Any]) -> bool:
    moment = status.get("launched")
    if not isinstance(moment, dict) or moment.get("boot_id") != boot_id():
        return False
    began, launcher = moment.get("boot_clock_s"), identity_in(status, "launcher")
    grace_s = START_GRACE_S if launcher is None or is_alive(launcher) else ORPHANED_GRACE_S
    return isinstance(began, int | float) and boot_clock_s() - began < grace_s


def _silent_s(status: Mapping[str, Any]) -> float | None:
    written = status.get("updated_boot_clock_s")
    silent_s = boot_clock_s() - written if isinstance(written, int | float) else 0.0
    return silent_s if silent_s > NO_HEARTBEAT_S else None


def _run_state(data: Mapping[str, Any], state: str) -> RunState:
    """A file may be half of another version's, or a person's: what has not the type that it should have is absent."""
    words: dict[str, Any] = {name: _of(data.get(name), str) for name in ("stage", "cause")}
    numbers: dict[str, Any] = {
        name: _of(data.get(name), int, float)
        for name in ("epoch", "eta_s", "fraction", "started_at", "ended_at", "silent_s")
    }
    sentences: dict[str, Any] = {name: _message(data.get(name)) for name in ("detail", "message", "remedy")}
    step, total_steps = (max(_of(data.get(name), int) or 0, 0) for name in ("step", "total_steps"))
    return RunState(state, step=step, total_steps=total_steps or None, **words, **numbers, **sentences)


def _of(value: Any, *kinds: type) -> Any:
    """`value` where it is of one of `kinds` (no bool for a number) and, a number, one that can be shown."""
    if type(value) not in kinds or (not isinstance(value, str) and not abs(value) < 2**53):
        return None
    return value


def _message(value: Any) -> Message | None:
    if value is None or isinstance(value, Message):
        return value
    try:
        message = Message.from_json(value)
        message.text("en")  # every value that the template names is there
    except (LookupError, TypeError, AttributeError, ValueError):
        return None
    return message
