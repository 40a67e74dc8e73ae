"""Which of several processes of a run failed first, and why: the others fail because of it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any, NamedTuple

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_, Message
from lora_backend.runs.record.documents import AttemptStatus
from lora_backend.runs.record.failures import CRASHES, PEER_LOST, cause_in_log, signal_name
from lora_backend.runs.record.peer_documents import SaidFailure
from lora_backend.runs.record.run_store import RunStore

_SIGKILLED, _SIGTERMED = -signal.SIGKILL, -signal.SIGTERM
_AFTER_ANOTHER = 3
"""Of one that was asked to end, which is never the first."""


class PeerFailedError(FlightdeckError):
    """One of the processes that trained together failed; `said`: which, and why."""

    code = "peer"

    def __init__(self, said: SaidFailure) -> None:
        self.said = said
        super().__init__(said.message.template, **said.message.values)


def without_a_word(attempt: AttemptStatus, node: int = 0) -> dict[int, int]:
    """Processes of a machine, by rank, that said neither that they are done nor why not, with the code 0; all have ended."""
    here = (peer for peer in attempt.peers if peer.node == node)
    return {peer.rank: 0 for peer in here if not peer.is_done and peer.failure is None}


class Fallen(NamedTuple):
    """The process of a machine that failed first there."""

    said: SaidFailure
    """Which, and why."""
    follows: int
    """How likely it is that it failed because of one on another machine; 0 for what is its own."""


def first_to_fail(
    run: RunStore, ended: Mapping[int, int], *, node: int = 0, oom_killed: bool = False, from_here: bool = False
) -> Fallen:
    """The failure with which a run of several processes ends, as the machine `node` sees it; all of them have ended there.

    `ended`: rank → return code (negative: a signal), of those that failed, in the order in which it was seen. Whoever was
    asked to end, or lost the connection to another, is no cause where there is one. `oom_killed`: the kernel ended a
    process for want of memory meanwhile. `from_here`: those that are left were ended by SIGKILL, because of another machine.
    """
    attempt, is_whole = run.read_status().attempt, run.read_attempt().num_nodes == 1
    said = {peer.rank: peer.failure for peer in attempt.peers if peer.failure is not None}
    codes = {**ended, **{rank: code for rank, code in without_a_word(attempt, node).items() if rank not in ended}}
    follows = {
        rank: _follows(code, said.get(rank), is_whole=is_whole, from_here=from_here) for rank, code in codes.items()
    }
    causes = [rank for rank in codes if follows[rank] == min(follows.values())]
    first = causes[0]
    if first in said:  # several in one look: the earliest by their own word
        first = min((rank for rank in causes if rank in said), key=lambda rank: said[rank].time or 0)
    host = None if is_whole else next((peer.host for peer in attempt.peers if peer.rank == first), None)
    who = Message(N_("Process {rank}"), {"rank": first})
    if host is not None:
        who = Message(N_("Process {rank} on {host}"), {"rank": first, "host": host})
    found = said.get(first) or _unsaid(run, first, codes[first], who, oom_killed=oom_killed)
    message, happened = found.message, found.time or run.clock()
    if first in said and found.cause != PEER_LOST:
        message = Message(N_("{process}: {said}"), {"process": who, "said": found.message})
    # The launcher's SIGTERM comes behind a failure: where all have ended by it, it came from outside.
    grade = 0 if set(follows.values()) == {_AFTER_ANOTHER} and not from_here else follows[first]
    return Fallen(SaidFailure(cause=found.cause, message=message, time=happened, rank=first), grade)


def _follows(code: int, said: SaidFailure | None, *, is_whole: bool, from_here: bool) -> int:
    """How likely it is that a process failed because of another: 0 for what is its own. `is_whole`: all are on this
    machine; then a connection is lost to one that has ended here, while the launcher's SIGTERM need not be all of them."""
    if said is not None:
        return 2 if said.cause == PEER_LOST else 0
    if code == _SIGTERMED:
        return 1 if is_whole else _AFTER_ANOTHER
    return _AFTER_ANOTHER if from_here and code == _SIGKILLED else 0


def _unsaid(run: RunStore, rank: int, code: int, who: Message, *, oom_killed: bool) -> SaidFailure:
    """From the return code alone, and the end of its log."""
    values: dict[str, Any] = {"process": who, "code": code, "signal": signal_name(-code)}
    logged = cause_in_log(run.peer_log(rank))
    if code >= 0:
        cause, said = logged or "crashed", N_("{process} ended with code {code} without saying why. See its log.")
    elif -code in CRASHES:
        cause, said = logged or "fault", N_("{process} crashed with {signal}.")
    elif code == _SIGKILLED and oom_killed:
        cause, said = "oom_killer", N_("{process} was ended by the kernel because the machine ran out of memory.")
    else:
        cause, said = "killed", N_("{process} was ended by {signal}.")
    return SaidFailure(cause=cause, message=Message(said, values))
