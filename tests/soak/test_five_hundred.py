"""Five hundred short runs through the queue: 480 with a stand-in trainer, in this proof alone, and 20 with the real one.

Nothing is left of them: no process, no open file, no lock, no place in the queue, and no memory that grows.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from lora_backend.runs.processes.leases import CPU, holders, is_locked
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.processes.recovery import recover, recover_all
from lora_backend.runs.processes.waiting import entries, leases_folder, queue_folder, queue_lock
from lora_backend.runs.record.process_identity import marked
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import add_start, make_run, set_status
from tests.runs.stand_in import HEAD, queue_processes
from tests.soak.conftest import Figures
from tests.soak.real import END_S, real_run, supervisors_of, trainers_of
from tests.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200), pytest.mark.usefixtures("ended_after")]
Make = Callable[..., dict[str, Any]]
STAND_INS, REAL = 480, 20
GPUS = ("GPU-one", "GPU-two", "GPU-three")
SHORT = (
    HEAD
    + """
set_status(RUN, state="running", trainer=identify(os.getpid()).to_json())
add_point(RUN, {"step": 1, "loss": 2.0})
set_status(RUN, outcome="finished")
"""
)


class Watched:
    """What the launching process and the queue's hold, looked at once a second while the runs go through."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.samples: dict[str, list[tuple[int, int]]] = {"launcher": [], "queue": []}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(1):
            for name, processes in (("launcher", [own]), ("queue", queue_processes(self.workspace)[:1])):
                for process in processes:
                    try:
                        self.samples[name].append((process.memory_info().rss, process.num_fds()))
                    except psutil.Error:  # it has just ended
                        continue

    def growth(self, name: str) -> tuple[float, float]:
        """MiB and open files, of the last quarter over the second one: the first fills caches."""
        samples = self.samples[name]
        quarter = len(samples) // 4
        early, late = samples[quarter : 2 * quarter], samples[-quarter:]
        assert early, f"too few looks at the {name}"
        return tuple(
            statistics.median(sample[index] for sample in late) - statistics.median(sample[index] for sample in early)
            for index in (0, 1)
        )  # type: ignore[return-value]


def stand_in(workspace: Path, number: int) -> RunStore:
    path = workspace / "runs" / f"stand-in-{number:03d}"
    run = make_run(
        path.parent,
        config={"r": 4},
        config_text="r: 4\n",
        argv=[sys.executable, "-c", SHORT, str(path)],
        path=path,
        state="queued",
    )
    add_start(run, device_uuids=[GPUS[number % len(GPUS)]])
    return run


def open_files() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return sorted(found)


def test_five_hundred_short_runs_leave_nothing_behind(config: Make, workspace: Path, figures: Figures) -> None:
    real = [real_run(workspace, config(num_epochs=1), f"real-{number:02d}") for number in range(REAL)]
    for run in real:
        (run.path / "status.json").unlink()
        set_status(run, state="queued")
        add_start(run, device_uuids=[])
    gc.collect()
    files, threads = open_files(), threading.active_count()
    began, runs = time.monotonic(), []
    with Watched(workspace) as watched:
        for number in range(STAND_INS):
            if number % (STAND_INS // REAL) == 0:
                runs.append(real[number // (STAND_INS // REAL)])
                start_or_queue(runs[-1], workspace)
            runs.append(stand_in(workspace, number))
            start_or_queue(runs[-1], workspace)
        launched_s = time.monotonic() - began
        until(lambda: all(run.exit_json.exists() for run in runs), "all end", limit_s=3 * END_S)
    took_s = time.monotonic() - began
    assert len(runs) == STAND_INS + REAL
    ends = [recover(run).state for run in runs]
    assert ends == ["finished"] * len(runs), {
        run.id: recover(run).cause for run in runs if recover(run).state != "finished"
    }

    until(lambda: not queue_processes(workspace), "with nothing to wait for, nobody waits", limit_s=END_S)
    until(lambda: not any(supervisors_of(run) for run in runs[-10:]), "supervisors leave", limit_s=END_S)
    processes = list(marked("FLIGHTDECK_WORKSPACE", str(workspace)))
    assert [identity.pid for identity in processes if identity.pid != os.getpid()] == []
    assert not any(trainers_of(run) for run in runs[-10:])
    recover_all(workspace / "runs")
    zombies = [child.pid for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
    assert zombies == [], "the dead are reaped by the next look"

    assert holders(leases_folder(workspace), [*GPUS, CPU]) == []
    assert not is_locked(queue_lock(workspace))
    assert not any(is_locked(run.path / "supervisor.lock") for run in runs)
    assert entries(workspace) == []
    assert sorted(path.name for path in queue_folder(workspace).iterdir()) == ["last.json", "last.lock"]
    half = [str(path) for run in runs for path in run.path.rglob(".*")]
    assert half == [], "no half file"

    gc.collect()
    assert open_files() == files
    assert threading.active_count() == threads
    grown = {name: watched.growth(name) for name in watched.samples}
    for name, (grown_bytes, grown_files) in grown.items():
        assert grown_files <= 1, (name, grown)
        assert grown_bytes < 8 * 2**20, (name, grown)
    figures(
        f"500 runs through the queue ({STAND_INS} with a stand-in trainer, this row alone; {REAL} real) in {took_s:.0f} s, launched within {launched_s:.0f} s: "
        "all finished; no process, lock, half file or place in the queue left; "
        + "; ".join(
            f"{name} grew by {size / 2**20:.1f} MiB and {count:.0f} open files" for name, (size, count) in grown.items()
        )
    )
