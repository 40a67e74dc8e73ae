"""Leases and the queue, with real processes: who starts, who waits, and what happens when one of them dies."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from lora_backend.hardware.inventory import Gpu, GpuInventory
from lora_backend.installation import child_environment
from lora_backend.runs.processes import queue
from lora_backend.runs.processes.leases import holders, lease_keys, release, take
from lora_backend.runs.processes.queue import change_plan, run_queue, start, start_or_queue, waiting_for
from lora_backend.runs.processes.recovery import recover, recover_all
from lora_backend.runs.processes.waiting import enter, entries, leases_folder
from lora_backend.runs.record import transitions
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import ORPHANED_GRACE_S, StateError
from lora_backend.runs.record.transitions import request_stop
from lora_backend.views.queue_view import waiting_messages
from tests.run_files import add_start, make_run, start_again, status_of
from tests.runs.stand_in import TRAIN, Make, kill, let_end, queue_processes, who
from tests.waiting import until

ONE, TWO, THREE = "GPU-one", "GPU-two", "GPU-three"


def states(runs: list[RunStore]) -> list[str]:
    return [run.state().state for run in runs]


def test_of_twenty_launches_at_once_one_runs_and_the_next_starts_when_it_is_killed(make: Make, tmp_path: Path) -> None:
    runs = [make(TRAIN, ONE, state="queued") for _ in range(20)]
    gate = threading.Barrier(20)

    def launch(run: RunStore) -> None:
        gate.wait()
        start_or_queue(run, tmp_path)

    threads = [threading.Thread(target=launch, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: states(runs).count("running") == 1, "one runs")
    assert states(runs).count("queued") == 19
    until(lambda: len(queue_processes(tmp_path)) == 1, "one process waits for all")
    first = next(run for run in runs if run.state().state == "running")
    order = [entry.run.id for entry in entries(tmp_path)]
    kill(first, "trainer")
    until(lambda: first.exit_json.exists(), "its end is written")
    assert (first.state().state, first.state().cause) == ("failed", "killed")
    next_one = next(run for run in runs if run.id == order[0])
    until(lambda: next_one.state().state == "running", "first come, first served")
    assert states(runs).count("queued") == 18
    for run in runs:
        if run.state().state == "queued":
            request_stop(run)
    let_end(next_one)
    until(lambda: next_one.state().state == "finished", "it ends")
    until(lambda: not queue_processes(tmp_path), "with nothing to wait for, nobody waits")
    assert states(runs).count("stopped") == 18


def test_runs_on_different_gpus_go_side_by_side_and_none_overtakes_on_its_own(make: Make, tmp_path: Path) -> None:
    runs = [make(TRAIN, *uuids, state="queued") for uuids in ([ONE], [ONE, TWO], [TWO], [THREE])]
    for run in runs:
        start_or_queue(run, tmp_path)
    assert [status_of(run)["state"] != "queued" for run in runs] == [True, False, False, True]
    assert waiting_for(runs[2], tmp_path).ahead == (runs[1].id,)


def test_a_lease_ends_with_its_last_holder_and_a_successor_writes_the_end(make: Make, tmp_path: Path) -> None:
    """The supervisor is killed, its trainer lives, a second run waits for the same GPU."""
    first, second = make(TRAIN, ONE, state="queued"), make(TRAIN, ONE, state="queued")
    assert start_or_queue(first, tmp_path)
    until(lambda: first.state().state == "running", "the first runs")
    assert not start_or_queue(second, tmp_path)
    (holder,) = waiting_for(second, tmp_path).holders
    assert (holder.run, holder.key) == (first.id, ONE)
    dead = kill(first, "supervisor")
    until(
        lambda: who(first, "supervisor") != dead and is_alive(who(first, "supervisor")), "the queue finds a successor"
    )
    assert first.state().state == "running"
    assert second.state().state == "queued"
    assert holders(leases_folder(tmp_path), [ONE]), "the trainer has the lease still"
    let_end(first)
    until(lambda: second.state().state == "running", "the next one starts")
    until(lambda: first.exit_json.exists(), "the successor writes the end")
    assert first.state().state == "finished"
    let_end(second)
    until(lambda: second.exit_json.exists(), "the end")


def test_two_queues_on_one_workspace_elect_one(make: Make, tmp_path: Path) -> None:
    first, second = make(TRAIN, ONE, state="queued"), make(TRAIN, ONE, state="queued")
    start_or_queue(first, tmp_path)
    start_or_queue(second, tmp_path)
    until(lambda: len(queue_processes(tmp_path)) == 1, "one waits")
    command = [sys.executable, "-m", "lora_backend.runs.processes.queue", str(tmp_path)]
    another = subprocess.Popen(command, env=child_environment())
    pids = {process.pid for process in queue_processes(tmp_path)} | {another.pid}
    # The first may still be on its way to the lock, so which of the two leaves is not said.
    until(lambda: another.poll() is not None or len(queue_processes(tmp_path)) == 1, "one leaves")
    (left,) = queue_processes(tmp_path)
    assert left.pid in pids, "and the other stays"
    assert [entry.run.id for entry in entries(tmp_path)] == [second.id]


def test_a_queue_that_was_killed_is_started_by_whoever_looks(make: Make, tmp_path: Path) -> None:
    first, second = make(TRAIN, ONE, state="queued"), make(TRAIN, ONE, state="queued")
    start_or_queue(first, tmp_path)
    start_or_queue(second, tmp_path)
    until(lambda: len(queue_processes(tmp_path)) == 1, "one waits")
    (process,) = queue_processes(tmp_path)
    process.kill()
    until(lambda: not queue_processes(tmp_path), "it is dead")
    (entry,) = entries(tmp_path)
    entry.file.unlink()  # and had not yet written the run's place down
    assert recover(second).state == "queued"
    until(lambda: len(queue_processes(tmp_path)) == 1, "another waits")
    assert [entry.run.id for entry in entries(tmp_path)] == [second.id]


def test_a_cancelled_run_ends_without_having_started(make: Make, tmp_path: Path) -> None:
    leases = take(leases_folder(tmp_path), [ONE], tmp_path / "somebody")
    assert leases
    run = make("", ONE, state="queued")
    start_or_queue(run, tmp_path)
    request_stop(run, "anna")
    assert (run.state().state, run.state().cause) == ("stopped", "cancelled")
    assert entries(tmp_path) == []
    release(leases)
    assert not start(run, tmp_path), "what was cancelled cannot be started"
    assert not run.train_log.exists()


def test_a_run_started_anyway_has_a_place_of_its_own_and_the_next_waits_for_both(make: Make, tmp_path: Path) -> None:
    folder = leases_folder(tmp_path)
    first = take(folder, [ONE], tmp_path / "first")
    beside = take(folder, [ONE], tmp_path / "beside", anyway=True)
    assert first
    assert beside
    assert [holder.run for holder in holders(folder, [ONE])] == ["first", "beside"]
    release(first)
    assert [holder.run for holder in holders(folder, [ONE])] == ["beside"]
    assert take(folder, [ONE], tmp_path / "next") is None
    release(beside)
    last = take(folder, [ONE], tmp_path / "next")
    assert last
    release(last)
    assert holders(folder, [ONE]) == []


def test_of_several_gpus_all_are_leased_or_none(tmp_path: Path) -> None:
    folder = leases_folder(tmp_path)
    held = take(folder, [TWO], tmp_path / "first")
    assert held
    assert take(folder, [ONE, TWO, THREE], tmp_path / "next") is None
    assert [holder.key for holder in holders(folder, [ONE, TWO, THREE])] == [TWO]
    release(held)


@pytest.mark.parametrize(
    ("attempt", "keys"),
    [
        ({"device_uuids": [ONE, TWO], "plan": {"devices": []}}, (ONE, TWO)),
        ({"device_uuids": [None], "plan": {"devices": []}}, ("cpu",)),
        ({"device_uuids": []}, ("cpu",)),
        ({}, ("cpu",)),
        ({"device_uuids": [], "plan": None, "environment": {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}}, ("GPU-a", "GPU-b")),
        ({"device_uuids": [], "plan": None, "environment": {"CUDA_VISIBLE_DEVICES": "-1"}}, ("cpu",)),
        ({"device_uuids": [ONE], "shares": True}, ()),
    ],
)  # fmt: skip
def test_what_a_start_leases(attempt: dict[str, object], keys: tuple[str, ...]) -> None:
    assert lease_keys(Attempt.read(attempt)) == keys


def gpus(*used_bytes: int, total_bytes: int = 100) -> GpuInventory:
    names = (ONE, TWO)
    return GpuInventory(tuple(Gpu(i, names[i], "card", total_bytes, used, (8, 0)) for i, used in enumerate(used_bytes)))


def test_a_run_waits_until_the_bytes_of_its_plan_are_free(make: Make, tmp_path: Path) -> None:
    plan = {"devices": [{"index": 0, "total_bytes": 40}, {"index": 1, "total_bytes": 60}], "assignment": [0, 1]}
    run = make("", ONE, TWO, state="queued", plan=plan)
    assert not start(run, tmp_path, lambda: gpus(0, 50))
    assert waiting_for(run, tmp_path, lambda: gpus(0, 50)).short_bytes == {TWO: 10}
    assert holders(leases_folder(tmp_path), [ONE, TWO]) == [], "what cannot start holds nothing"
    assert waiting_for(run, tmp_path, lambda: gpus(0)).missing == (TWO,)
    assert not start(run, tmp_path, lambda: gpus(0))
    assert len(waiting_messages(waiting_for(run, tmp_path, lambda: gpus(60, 40)))) == 1, "nothing but its turn keeps it"
    assert start(run, tmp_path, lambda: gpus(60, 40))


def test_a_queued_run_moves_to_other_gpus_and_one_that_started_does_not(make: Make, tmp_path: Path) -> None:
    leases = take(leases_folder(tmp_path), [ONE], tmp_path / "somebody")
    assert leases
    run = make("", ONE, state="queued")
    assert not start_or_queue(run, tmp_path)
    change_plan(run, tmp_path, Attempt(device_uuids=[TWO]))
    until(lambda: run.state().state != "queued", "the queue starts it on the other GPU")
    with pytest.raises(StateError, match="is no longer waiting"):
        change_plan(run, tmp_path, Attempt(device_uuids=[THREE]))
    release(leases)


def test_a_run_that_is_planned_anew_while_it_is_started_keeps_its_place_and_waits(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = make(TRAIN, ONE, state="queued"), []
    place = enter(run, tmp_path).file

    def planned_anew(self: RunStore, *states: Any, **more: Any) -> None:
        change_plan(run, tmp_path, Attempt(device_uuids=[TWO]))
        try:
            transitions.move(self, *states, **more)
        finally:
            seen.append(status_of(run)["state"])

    monkeypatch.setattr(queue, "move", planned_anew)
    assert not start(run, tmp_path)
    assert seen == ["queued"], "a page that looks at the queue at any moment leaves it its place"
    ((file, keys),) = [(entry.file, entry.keys) for entry in entries(tmp_path)]
    assert (file, keys) == (place, (TWO,))
    assert not holders(leases_folder(tmp_path), [ONE])


def test_a_deleted_folder_leaves_the_queue_to_the_others(make: Make, tmp_path: Path) -> None:
    import shutil

    leases = take(leases_folder(tmp_path), [ONE], tmp_path / "somebody")
    assert leases
    runs = [make("", ONE, state="queued") for _ in range(2)]
    for run in runs:
        start_or_queue(run, tmp_path)
    shutil.rmtree(runs[0].path)
    release(leases)
    until(lambda: runs[1].state().state != "queued", "the other starts")


def test_places_in_the_queue_are_counted_whatever_the_clock_says(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = take(leases_folder(tmp_path), [ONE], tmp_path / "somebody")
    assert leases
    first, second = make("", ONE, state="queued"), make("", ONE, state="queued")
    start_or_queue(second, tmp_path)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    start_or_queue(first, tmp_path)
    assert [entry.run.id for entry in entries(tmp_path)] == [second.id, first.id]
    release(leases)


def test_a_queue_without_runs_ends_at_once(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    run_queue(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_launcher_that_dies_before_it_has_started_anything_leaves_no_run_that_starts_for_ever(
    make: Make, tmp_path: Path
) -> None:
    run = make(TRAIN, ONE, state="queued")
    dies = (
        "import os, signal, sys; from pathlib import Path; from lora_backend.runs.processes import queue; from lora_backend.runs.record.run_store import RunStore;"
        "queue.start_supervisor = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
        "queue.start_or_queue(RunStore(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", dies, str(run.path), str(tmp_path)], env=child_environment())
    assert done.returncode == -9
    assert run.state().state == "starting", "a supervisor may be on its way"
    until(lambda: recover(run).state == "lost", "nobody is", limit_s=2 * ORPHANED_GRACE_S)
    assert not holders(leases_folder(tmp_path), [ONE])
    start_again(run, "queued", device_uuids=[ONE])
    assert start_or_queue(run, tmp_path)
    until(lambda: run.state().state == "running", "it can be started again")
    let_end(run)
    until(lambda: run.state().state == "finished", "it ends")


def copied_while_it_waited(make: Make, tmp_path: Path) -> RunStore:
    """As rsync brings it: it says that it is queued, names a command, and was never queued here."""
    run = make(f"from pathlib import Path; Path({str(tmp_path / 'started')!r}).touch()", ONE, state="queued")
    with run.changing_status() as status:
        assert status.attempt.launched is not None
        status.attempt.launched.boot_id = "of another machine"
    return run


def test_the_command_of_a_run_that_was_copied_while_it_waited_is_not_started_by_a_look(
    make: Make, tmp_path: Path
) -> None:
    run = copied_while_it_waited(make, tmp_path)
    assert recover(run).state == "queued"
    recover_all(tmp_path / "runs")
    assert queue_processes(tmp_path) == []
    assert entries(tmp_path) == []
    (sentence,) = waiting_messages(waiting_for(run, tmp_path))
    assert "queued on another machine and copied here, so it does not start automatically" in sentence.text("en")
    request_stop(run)
    assert run.state().state == "stopped", "from here on it can be resumed"
    assert not (tmp_path / "started").exists()


def test_a_run_that_waits_here_goes_on_waiting_after_the_machine_was_started_anew(make: Make, tmp_path: Path) -> None:
    run = copied_while_it_waited(make, tmp_path)  # with its place, it is one of before a reboot
    enter(run, tmp_path)
    assert recover(run).state in ("queued", "starting")
    until((tmp_path / "started").exists, "its turn comes")


@pytest.mark.parametrize(
    "path",
    [
        "{outside}/runs/theirs",
        "{home}/runs/../../outside/runs/theirs",
        "{home}/runs/link",
        "{home}/linked/theirs",
        "runs/theirs",
        "\0",
        "",
    ],
)
def test_an_entry_that_names_a_run_elsewhere_starts_nothing(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unpacked archive may bring the folder of the queue along."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    for folder in (home / "queue", home / "runs", outside):
        folder.mkdir(parents=True)
    theirs = make_run(
        outside / "runs",
        config={},
        config_text="",
        argv=["touch", str(tmp_path / "started")],
        path=outside / "runs" / "theirs",
        state="queued",
    )
    add_start(theirs, device_uuids=[])
    (home / "runs" / "link").symlink_to(theirs.path)
    (home / "linked").symlink_to(theirs.path.parent)
    monkeypatch.chdir(outside)
    entry = home / "queue" / "000000001-theirs.json"
    entry.write_text(json.dumps({"number": 1, "path": path.format(home=home, outside=outside), "keys": ["cpu"]}))
    run_queue(home, tick_s=0.01)
    assert (entries(home), entry.exists(), theirs.state().state) == ([], False, "queued")


@pytest.mark.parametrize(
    "part", [{"number": "x"}, {"number": None}, {"keys": 3}, {"keys": None}, {"path": 5}, {"path": []}]
)
def test_an_entry_that_is_none_is_taken_away(part: dict[str, Any], make: Make, tmp_path: Path) -> None:
    entry = enter(make(TRAIN, ONE, state="queued"), tmp_path)
    entry.file.write_text(json.dumps(json.loads(entry.file.read_text()) | part))
    assert entries(tmp_path) == []
