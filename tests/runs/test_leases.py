"""What is written down of a lease: there while it is held, gone at the next look, and never another's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lora_backend.installation import child_environment
from lora_backend.runs.processes import leases
from lora_backend.runs.processes.leases import clear_stale, holders, release, take
from lora_backend.runs.processes.recovery import recover_all

KEYS = ["cpu", "GPU-aa"]


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.json"))


def test_what_is_held_stays_written_down_and_what_was_let_go_is_cleared_at_the_next_look(tmp_path: Path) -> None:
    held, gone = take(tmp_path, ["cpu"], tmp_path / "one"), take(tmp_path, ["GPU-aa"], tmp_path / "two")
    assert held is not None
    assert gone is not None
    release(gone)
    assert written(tmp_path) == ["GPU-aa.0.json", "cpu.0.json"]
    assert [holder.run for holder in holders(tmp_path, KEYS)] == ["one"]
    assert written(tmp_path) == ["cpu.0.json"]
    release(held)
    clear_stale(tmp_path)
    assert written(tmp_path) == []
    assert holders(tmp_path, KEYS) == []


def test_the_place_of_a_run_beside_another_is_cleared_by_itself(tmp_path: Path) -> None:
    first, second = take(tmp_path, ["cpu"], tmp_path / "one"), take(tmp_path, ["cpu"], tmp_path / "two", anyway=True)
    assert first is not None
    assert second is not None
    release(first)
    assert [holder.run for holder in holders(tmp_path, ["cpu"])] == ["two"]
    assert written(tmp_path) == ["cpu.1.json"]
    release(second)


def test_whoever_looks_at_the_runs_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from lora_backend.runs.processes.leases import take; take(Path(sys.argv[1]), ['cpu'], Path('gone')); print('held', flush=True); sys.stdin.read()"
    folder = tmp_path / "leases"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    recover_all(tmp_path / "runs")
    assert written(folder) == ["cpu.0.json"], "it lives"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    recover_all(tmp_path / "runs")
    assert written(folder) == []


def test_one_that_starts_while_another_clears_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock comes first: between lock and word the one who clears has judged, and then it waits for the book."""
    old = take(tmp_path, ["cpu"], tmp_path / "old")
    assert old is not None
    release(old)
    looked, go_on, is_locked = threading.Event(), threading.Event(), leases._is_locked
    asked = []

    def slow(descriptor: int, slot: int) -> bool:
        found = is_locked(descriptor, slot)
        asked.append(slot)
        if len(asked) == 2:  # with the book in hand, and before it takes away
            looked.set()
            go_on.wait(30)
        return found

    monkeypatch.setattr(leases, "_is_locked", slow)
    clearing = threading.Thread(target=clear_stale, args=(tmp_path,))
    clearing.start()
    assert looked.wait(30)
    monkeypatch.setattr(leases, "BOOK_TIMEOUT_S", 60)
    waits, has_book = threading.Event(), leases._has_book

    def waiting_for_the_book(descriptor: int) -> bool:
        waits.set()
        return has_book(descriptor)

    monkeypatch.setattr(leases, "_has_book", waiting_for_the_book)
    found: list[object] = []
    starting = threading.Thread(target=lambda: found.append(take(tmp_path, ["cpu"], tmp_path / "new")))
    starting.start()
    while starting.is_alive() and not waits.wait(0.01):
        pass
    go_on.set()
    clearing.join()
    starting.join()
    assert json.loads((tmp_path / "cpu.0.json").read_text())["run"] == "new"
    clear_stale(tmp_path)
    assert [holder.run for holder in holders(tmp_path, ["cpu"])] == ["new"]


def test_clearing_and_starting_at_once_loses_no_word(tmp_path: Path) -> None:
    done = threading.Event()

    def clear() -> None:
        while not done.is_set():
            clear_stale(tmp_path)

    clearers = [threading.Thread(target=clear) for _ in range(2)]
    for clearer in clearers:
        clearer.start()
    try:
        for number in range(100):
            held = take(tmp_path, ["cpu"], tmp_path / f"run{number}")
            assert held is not None, "asking stands in nobody's way"
            assert [holder.run for holder in holders(tmp_path, ["cpu"])] == [f"run{number}"]
            release(held)
    finally:
        done.set()
        for clearer in clearers:
            clearer.join()


def test_a_word_that_is_none_of_ours_makes_no_look_fail(tmp_path: Path) -> None:
    held = take(tmp_path, ["cpu"], tmp_path / "one")
    assert held is not None
    (tmp_path / "cpu.0.json").write_text('{"pid": "x", "time": [], "run": 5}')
    (tmp_path / "odd.name.json").write_text("{")
    assert holders(tmp_path, ["cpu"])[0].pid == 0
    clear_stale(tmp_path)
    release(held)
