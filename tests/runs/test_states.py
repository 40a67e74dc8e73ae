"""The one table of moves between states: nothing is written that it does not lead to."""

from __future__ import annotations

import threading

import pytest

from lora_backend.runs.record.states import ENDED, MOVES, STATES, StateError, check_move
from lora_backend.runs.record.transitions import move
from tests.run_files import end_run, set_status, status_of
from tests.runs.stand_in import Make


def test_no_state_is_written_that_the_table_does_not_lead_to(make: Make) -> None:
    run = make(state="queued")
    with pytest.raises(StateError, match="queued cannot become running"):
        set_status(run, state="running")
    with pytest.raises(StateError):
        end_run(run, "finished")
    with pytest.raises(StateError):
        check_move("running", "paused")
    move(run, "queued", "starting")
    set_status(run, state="running")
    with pytest.raises(StateError):
        set_status(run, state="queued")
    end_run(run, "finished")
    with pytest.raises(StateError, match="finished cannot become running"):
        set_status(run, state="running")
    assert status_of(run)["state"] == "running", "what is refused changes nothing"


def leads_to(state: str | None) -> set[str]:
    """All states that a run can come to from `state`."""
    found: set[str] = set()
    ahead = set(MOVES[state])
    while ahead:
        found |= ahead
        ahead = {after for each in ahead for after in MOVES[each]} - found
    return found


def test_every_state_is_come_to_and_none_is_a_trap() -> None:
    assert leads_to(None) == STATES
    for state in STATES:
        assert leads_to(state) >= ENDED, f"{state} can end, whatever happens"


def test_what_has_ended_begins_as_a_new_run_does_and_is_never_ended_otherwise() -> None:
    for end in ENDED:
        assert MOVES[end] == MOVES[None]
        for other in ENDED - {end}:
            with pytest.raises(StateError, match=f"{end} cannot become {other}"):
                check_move(end, other)


def test_of_two_who_take_a_run_from_the_queue_one_does(make: Make) -> None:
    run, taken, gate = make(state="queued"), [], threading.Barrier(8)

    def take() -> None:
        gate.wait()
        try:
            move(run, "queued", "starting")
            taken.append(1)
        except StateError:
            pass

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == [1]


def test_launcher_supervisor_and_trainer_write_one_status_without_losing_each_others_keys(make: Make) -> None:
    run = make()

    def write(key: str) -> None:
        for number in range(30):
            set_status(run, **{key: number})

    threads = [threading.Thread(target=write, args=(key,)) for key in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key: status_of(run)[key] for key in "abcd"} == dict.fromkeys("abcd", 29)
