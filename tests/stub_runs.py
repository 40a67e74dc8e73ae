"""Runs whose trainer is a script, for commands that look at runs and end them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.runs.record.transitions import request_stop
from tests.run_files import make_run, process_of, status_of
from tests.runs.stand_in import HEAD, TRAIN, queue_processes
from tests.tiny import prompts, stub_model, write_rows

MakeRun = Callable[..., RunStore]


def stub_runs(workspace: Path) -> Iterator[MakeRun]:
    """Makes runs whose trainer is `script`; at the end all that still lives of them is killed."""

    model, data = stub_model(workspace.parent / "stub"), write_rows(workspace.parent / "stub.jsonl", prompts(1))

    def make(run_id: str = "run", script: str = HEAD + TRAIN, **more: Any) -> RunStore:
        path = workspace / "runs" / run_id
        argv = [sys.executable, "-c", script, str(path), "--run-dir", str(path)]
        config = {"model_name": str(model), "dataset": str(data), "r": 4, "batch_size": 4, **more.pop("config", {})}
        return make_run(
            path.parent,
            config=config,
            config_text=f"model_name: {model}\ndataset: {data}\nr: 4\nbatch_size: 4\n",
            path=path,
            **({"argv": argv, "name": run_id.title()} | more),
        )

    yield make
    for run in list_runs(workspace / "runs"):
        if status_of(run).get("state") == "queued":
            request_stop(run)
    for process in queue_processes(workspace):
        process.kill()
    for run in list_runs(workspace / "runs"):
        for role in ("supervisor", "child", "trainer"):
            found = process_of(run, role)
            if found and found.pid != os.getpid() and is_alive(found):
                os.kill(found.pid, signal.SIGKILL)
