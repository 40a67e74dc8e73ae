"""Looking back: the table of 1,000 runs, and a curve of 200,000 points made ready for drawing.

In seconds of this machine, each beside what a user's own script would do with the same files. Where the two are
compared they take turns, so that what disturbs one disturbs the other as well.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.noise import median_and_spread
from lora_backend.config.schema import default_config
from lora_backend.runs.history.run_table import History
from lora_backend.runs.processes.leases import lock_once
from lora_backend.runs.processes.recovery import recover_all
from lora_backend.runs.processes.waiting import queue_folder, queue_lock
from lora_backend.runs.record.curves import read_columns

Work = tuple[str, Callable[[], object]]
"""What is measured, in words, and the doing of it."""
RUNS, POINTS_OF_A_RUN, POINTS, QUEUED = 1_000, 200, 200_000, 300


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _table(Path(folder) / "runs")
        _curve(Path(folder) / "metrics.jsonl")


def _table(root: Path) -> None:
    print(f"making {RUNS} runs of {POINTS_OF_A_RUN} points …", file=sys.stderr)
    for number in range(RUNS):
        _run(root / f"20250101-{number:06d}-abcd", number)

    naive = ("reading every file of every run, whole", lambda: _naive(root))
    known = History(root)
    known.rows()
    _compared(
        (f"table of {RUNS:,} runs, cold: nothing known, no file in memory (at most 1 s)", lambda: History(root).rows()),
        naive,
        before=lambda: _forget(root),
    )
    _compared((f"table of {RUNS:,} runs, nothing known, files in memory", lambda: History(root).rows()), naive)
    _compared(
        (
            f"table of {RUNS:,} runs, warm, and a look after those that go on (at most 0.1 s)",
            lambda: (recover_all(root), known.rows()),
        ),
        naive,
    )
    for number in range(QUEUED):
        _queued(root / f"20250102-{number:06d}-abcd", root.parent, number + 1)
    known.rows()
    with _served(root.parent):
        _compared((f"the same with {QUEUED} more that wait", lambda: (recover_all(root), known.rows())), naive)


def _run(path: Path, number: int) -> None:
    """The files that an ended run leaves; written plainly, for a flush to the disk each would take minutes."""
    (path / "attempts").mkdir(parents=True)
    config = default_config() | {"model_name": f"model-{number % 7}", "learning_rate": 1e-4 * (1 + number % 5)}
    about = {"format": 1, "id": path.name, "name": f"run {number}", "created_at": 1e9 + number, "actor": "anna", "config": config, "argv": ["x"], "versions": {}}  # fmt: skip
    layer = {"block": 0, "module": "q_proj", "expected_r": 16, "config_r": 16, "layer_r": 16, "a_r": 16, "b_r": 16, "shape_a": [16, 576], "shape_b": [576, 16], "scaling": 2.0, "expected_scaling": 2.0, "state": "ok"}  # fmt: skip
    layers = [{"name": f"model.layers.{index // 7}.self_attn.q_proj{index % 7}", **layer} for index in range(210)]
    for name, value in {
        "run.json": about,
        "status.json": {"format": 1, "state": "running", "step": 200, "total_steps": 200, "outcome": "finished"},
        "exit.json": {"format": 1, "state": "finished", "ended_at": 1e9 + number, "message": None},
        "rank_report.json": {"format": 1, "is_consistent": True, "layers": layers},
        "attempts/1.json": {"format": 1, "number": 1, "device_uuids": []},
    }.items():
        (path / name).write_text(json.dumps(value, default=str))
    _points(path / "metrics.jsonl", POINTS_OF_A_RUN)


def _queued(path: Path, workspace: Path, number: int) -> None:
    """A run that waits for its turn."""
    _run(path, number)
    (path / "exit.json").unlink()
    place = {"number": number, "workspace": str(workspace)}
    (path / "status.json").write_text(json.dumps({"format": 1, "state": "queued", "queue": place}))
    queue_folder(workspace).mkdir(exist_ok=True)
    entry = {"number": number, "path": str(path), "keys": ["cpu"]}
    (queue_folder(workspace) / f"{number:09d}-{path.name}.json").write_text(json.dumps(entry))


@contextmanager
def _served(workspace: Path) -> Iterator[None]:
    """As if the process that starts what waits were there, so that none is started."""
    queue_lock(workspace).parent.mkdir()
    lock = lock_once(queue_lock(workspace))
    assert lock is not None
    try:
        yield
    finally:
        os.close(lock)


def _points(path: Path, count: int) -> None:
    with path.open("w") as file:
        for step in range(1, count + 1):
            row = {"format": 1, "step": step, "epoch": step / 1000, "loss": 2.0 + (step * 7919 % 1000) / 1000, "learning_rate": 1e-4, "grad_norm": 1.5, "tokens_per_s": 812.25, "memory_bytes": 1234567890, "time": 1.7e9 + step}  # fmt: skip
            file.write(json.dumps(row | ({"eval_loss": 1.9} if step % 100 == 0 else {})) + "\n")


def _naive(root: Path) -> list[dict[str, Any]]:
    """A script's way: every file of every run, whole."""
    rows = []
    for path in sorted(root.iterdir(), reverse=True):
        row: dict[str, Any] = {}
        for name in ("run.json", "status.json", "exit.json", "rank_report.json"):
            row[name] = json.loads((path / name).read_text()) if (path / name).exists() else None
        row["metrics"] = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        rows.append(row)
    return rows


def _forget(root: Path) -> None:
    """Have the kernel drop the files' pages, so that they come from the disk again."""
    for path in root.rglob("*.json*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a page that is not written yet stays
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _curve(path: Path) -> None:
    logging.disable(logging.WARNING)  # streamlit misses its server, at every sentence
    from pages.parts.widgets.charts import loss_chart

    _points(path, POINTS)

    def ours() -> None:
        loss_chart(read_columns(path)).to_json()

    def theirs() -> None:
        import pandas
        import plotly.graph_objects as go

        with path.open() as file:
            table = pandas.DataFrame([json.loads(line) for line in file])
        table["smoothed"] = table["loss"].ewm(alpha=0.1).mean()
        evaluated = table.dropna(subset=["eval_loss"])
        figure = go.Figure()
        for rows, name in ((table, "loss"), (table, "smoothed"), (evaluated, "eval_loss")):
            figure.add_scatter(x=rows["step"], y=rows[name], mode="lines", name=name)
        figure.to_json()

    _compared(
        (f"{POINTS:,} points read, thinned and drawn, as the browser gets them (at most 0.5 s)", ours),
        ("json.loads, pandas and plotly with every point", theirs),
    )


def _compared(ours: Work, theirs: Work, before: Callable[[], object] = lambda: None, runs: int = 7) -> None:
    """Both in turns, `runs` times behind one that warms up; `before` each, untimed."""
    times: list[list[float]] = [[], []]
    for turn in range(runs + 1):
        for index, (_, work) in enumerate((ours, theirs)):
            before()
            began = time.perf_counter()
            work()
            if turn:
                times[index].append(time.perf_counter() - began)
    own, other = (median_and_spread(measured, "s") for measured in times)
    ratio = statistics.median(times[0]) / statistics.median(times[1])
    print(f"{ours[0]}: {own}; {theirs[0]}: {other}; ratio {ratio:.3g}", flush=True)
