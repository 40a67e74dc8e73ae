"""Runs in every state, made of files alone, for pictures of their pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lora_backend.runs.record.process_identity import ProcessIdentity
from lora_backend.runs.record.run_store import RunStore
from tests.browser.living_run import living
from tests.run_files import add_point, end_run, make_run, set_status


def states(workspace: Path, trainer: ProcessIdentity) -> dict[str, RunStore]:
    """One run of each: under way (its trainer is said to be `trainer`), queued, failed, diverged, and without points."""
    runs = {"running": living(workspace, trainer)}
    for name in ("queued", "failed", "diverged", "no_points"):
        runs[name] = make_run(
            workspace / "runs",
            config={"model_name": "Llama-3.1-8B", "learning_rate": 1e-3},
            config_text="model_name: Llama-3.1-8B\nlearning_rate: 1e-3\n",
            argv=["true"],
            name=f"Llama-3.1-8B {name}",
        )
    _points(runs["failed"], lambda step: 2 / step + 0.5, 24)
    end_run(
        runs["failed"],
        "failed",
        cause="gpu_out_of_memory",
        log=["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."],
    )
    _points(runs["diverged"], lambda step: 2.0 if step < 12 else 2.0 + (step - 11) ** 1.5, 60)
    end_run(runs["diverged"], "stopped")
    set_status(runs["no_points"], state="starting", stage="load")
    end_run(runs["no_points"], "lost")
    return runs


def _points(run: RunStore, loss: Callable[[int], float], count: int) -> None:
    for step in range(1, count + 1):
        add_point(run, {"step": step, "loss": loss(step), "learning_rate": 1e-3, "grad_norm": 1.0, "time": float(step)})
    set_status(run, state="running", step=count, total_steps=80)
