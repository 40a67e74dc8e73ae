"""Which of several processes failed first: told from what they said, their return codes, and the order of both."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from lora_backend.i18n import Message
from lora_backend.runs.processes.peer_end import first_to_fail
from lora_backend.runs.record.failures import PEER_LOST, failure
from lora_backend.runs.record.peer_documents import PeerProcess, SaidFailure
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import add_start, make_run, set_status

KILL, TERM, SEGV = -signal.SIGKILL, -signal.SIGTERM, -signal.SIGSEGV
LOST, BAD, DONE = "lost", "bad", "done"


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    return make_run(tmp_path, config={}, config_text="", argv=["true"])


def peers(**said: Any) -> list[PeerProcess]:
    """By rank: nothing said, done, lost, or a failure of its own at a time."""
    found = []
    for name, word in said.items():
        rank = int(name[1:])
        reason: SaidFailure | None = None
        if word == LOST:
            reason = SaidFailure(cause=PEER_LOST, message=failure(PEER_LOST, rank=rank).message, time=1)
        elif isinstance(word, tuple):
            reason = SaidFailure(cause="data", message=Message("Row {row}.", {"row": rank}), time=word[1])
        found.append(PeerProcess(rank=rank, failure=reason, is_done=word == DONE))
    return found


@pytest.mark.parametrize(
    ("said", "ended", "sentence"),
    [
        # The order is that in which the launcher saw them end.
        ({"r0": LOST, "r1": None}, {0: 1, 1: KILL}, "Process 1 was ended by SIGKILL."),
        ({"r0": None, "r1": None}, {1: KILL, 0: TERM}, "Process 1 was ended by SIGKILL."),
        ({"r0": None, "r1": None}, {1: TERM, 0: TERM}, "Process 1 was ended by SIGTERM."),
        ({"r0": LOST, "r1": None}, {0: 1, 1: TERM}, "Process 1 was ended by SIGTERM."),
        ({"r0": None, "r1": None}, {1: SEGV, 0: TERM}, "Process 1 crashed with SIGSEGV."),
        ({"r0": LOST, "r1": None}, {0: 1, 1: 7}, "Process 1 ended with code 7 without saying why. See its log."),
        ({"r0": LOST, "r1": None}, {0: 1}, "Process 1 ended with code 0 without saying why. See its log."),
        ({"r0": LOST, "r1": (BAD, 5)}, {0: 1, 1: 1}, "Process 1: Row 1."),
        ({"r0": (BAD, 6), "r1": (BAD, 5)}, {0: 1, 1: 1}, "Process 1: Row 1."),
        ({"r0": None, "r1": (BAD, 5)}, {1: 1, 0: KILL}, "Process 1: Row 1."),
        ({"r0": LOST, "r1": LOST}, {0: 1, 1: 1}, "Process 0 lost the connection to the other processes."),
        ({"r0": DONE, "r1": None}, {1: KILL}, "Process 1 was ended by SIGKILL."),
        ({}, {1: KILL, 0: TERM}, "Process 1 was ended by SIGKILL."),
    ],
)
def test_the_first_is_named_and_who_followed_is_not(
    said: dict[str, Any], ended: dict[int, int], sentence: str, run: RunStore
) -> None:
    set_status(run, peers=peers(**said))
    found = first_to_fail(run, ended).said
    assert str(found.message) == sentence
    assert str(found.rank) in sentence


@pytest.mark.parametrize(
    ("code", "log", "oom_killed", "cause"),
    [
        (KILL, "", False, "killed"),
        (KILL, "", True, "oom_killer"),
        (SEGV, "", True, "fault"),
        (-signal.SIGABRT, "torch.OutOfMemoryError: CUDA out of memory.", False, "gpu_out_of_memory"),
        (1, "OSError: No space left on device", False, "disk_full"),
        (1, "", False, "crashed"),
    ],
)
def test_why_a_process_without_a_word_failed_is_told_by_its_own_log(
    code: int, log: str, oom_killed: bool, cause: str, run: RunStore
) -> None:
    run.train_log.write_text("No space left on device\n")
    run.peer_logs.mkdir()
    run.peer_log(3).write_text(log)
    assert first_to_fail(run, {3: code}, oom_killed=oom_killed).said.cause == cause


def test_a_lost_connection_is_of_another_machine_where_here_nobody_fell_by_himself(run: RunStore) -> None:
    add_start(run, strategy="ddp", num_processes=2, num_nodes=2)
    elsewhere = PeerProcess(rank=0, node=0)
    set_status(run, peers=[elsewhere, *(peer.model_copy(update={"node": 1}) for peer in peers(r2=LOST, r3=None))])
    found = first_to_fail(run, {3: TERM, 2: 1}, node=1).said
    assert (found.cause, found.rank) == (PEER_LOST, 2)


@pytest.mark.parametrize(
    ("said", "ended", "from_here", "sentence", "follows"),
    [
        ({"r2": (BAD, 5)}, {2: 1}, False, "Process 2 on gpu-two: Row 2.", 0),
        ({"r2": None}, {2: KILL}, False, "Process 2 on gpu-two was ended by SIGKILL.", 0),
        ({"r2": LOST}, {2: 1}, False, "Process 2 lost the connection to the other processes.", 2),
        # Its launcher sends SIGTERM behind a failure alone, so this one came from outside …
        ({"r2": None, "r3": None}, {3: TERM, 2: TERM}, False, "Process 3 on gpu-two was ended by SIGTERM.", 0),
        # … and where another machine's failure was waited for, SIGKILL came from the agent.
        ({"r2": None, "r3": None}, {2: KILL, 3: KILL}, True, "Process 2 on gpu-two was ended by SIGKILL.", 3),
        ({"r2": None, "r3": (BAD, 5)}, {2: KILL, 3: 1}, True, "Process 3 on gpu-two: Row 3.", 0),
    ],
)
def test_a_machine_says_how_likely_its_failure_followed_that_of_another(
    said: dict[str, Any], ended: dict[int, int], from_here: bool, sentence: str, follows: int, run: RunStore
) -> None:
    add_start(run, strategy="ddp", num_processes=2, num_nodes=2)
    here = [peer.model_copy(update={"node": 1, "host": "gpu-two"}) for peer in peers(**said)]
    set_status(run, peers=[PeerProcess(rank=0, host="gpu-one"), *here])
    found = first_to_fail(run, ended, node=1, from_here=from_here)
    assert (str(found.said.message), found.follows) == (sentence, follows)
