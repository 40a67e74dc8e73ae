"""Trainings of one process and of two over the same rows, made for tests that hold them against one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from lora_backend.config.config_writing import dump_yaml
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import make_run, points_of
from tests.tiny import ANSWERS, QUESTIONS, make_model, write_rows
from tests.together import together
from tests.training.peer_jobs import JOBS

WITHIN = 1e-5
UNEVEN: dict[str, Any] = {
    "r": 4, "alpha": 8, "lora_dropout": 0.0, "batch_size": 2, "target_batch_size": 6, "max_steps": 50, "learning_rate": 2e-3,
    "val_size": 0.2, "eval_strategy": "steps", "eval_steps": 10, "logging_steps": 1, "save_steps": 25, "precision": "fp32", "batching": "flat",
}  # fmt: skip
"""17 rows of one to four times the words, 3 batches a step of which one process has two, and a last step of 2, 2 and 1 rows."""
DROPPED = {**UNEVEN, "lora_dropout": 0.1, "max_steps": 8, "eval_steps": 4, "save_steps": 4, "logging_steps": 2}
SHORT = {"max_steps": 7, "eval_steps": 7, "save_steps": 7}
BEST = {**UNEVEN, "max_steps": 24, "eval_steps": 2, "save_steps": 2, "early_stopping_patience": 2, "metric_for_best_model": "token_accuracy", "load_best_model_at_end": True}  # fmt: skip
"""In its first steps no token is right, so the first evaluation is the best."""


def rows() -> list[dict[str, object]]:
    return [
        {"prompt": f"{QUESTIONS[one % 4]} " * (one % 3 + 1), "completion": f"{ANSWERS[one % 4]} " * (one % 4 + 1)}
        for one in range(21)
    ]


def questions() -> list[dict[str, object]]:
    return [{"messages": [{"role": "user", "content": text}]} for text in QUESTIONS]


class Trained:
    """All runs of this module: each by one process or by two, as `jobs` says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: list[dict[str, Any]] = []
        self.runs: dict[str, RunStore] = {}
        self.model, self.data = make_model(folder / "model"), write_rows(folder / "rows.jsonl", rows())
        self.questions = write_rows(folder / "questions.jsonl", questions())

    def made(self, name: str, values: dict[str, Any]) -> RunStore:
        """Of a launcher that has no plan for it: nothing is traced here. That there are several processes the recipe is told by
        its caller, not by the config, whose rules would not let a process be idle."""
        own = {"model_name": str(self.model), "dataset": str(self.data)}
        whole = own | ({"questions": str(self.questions)} if "sample_every_steps" in values else {}) | values
        runs, name_of_folder = self.folder / "ws/runs", name.replace(" ", "-").replace(",", "")
        self.runs[name] = make_run(
            runs,
            path=runs / name_of_folder,
            config=whole,
            config_text=dump_yaml(whole),
            argv=None,
            attempt={"plan": None},
        )
        return self.runs[name]

    def job(self, name: str, values: dict[str, Any] | None = None, act: str = "", changes: dict[str, Any] | None = None) -> None:  # fmt: skip
        """By two processes, later."""
        run = self.made(name, values) if values is not None else self.runs[name]
        self.jobs.append({"name": name, "run": str(run.path), "act": act, "changes": changes or {}})

    def start(self, size: int = 2) -> None:
        where = self.folder / "together"
        where.mkdir()
        (where / JOBS).write_text(json.dumps(self.jobs))
        together("tests.training.peer_jobs:train_all", where, size)

    def ended(self, name: str) -> list[dict[str, Any]]:
        """How its last job ended at each process."""
        number = max(place for place, job in enumerate(self.jobs) if job["name"] == name)
        return [json.loads((self.folder / "together" / f"{number}.{rank}.json").read_text()) for rank in range(2)]


def compared(run: RunStore, other: RunStore, name: str) -> float:
    """The largest relative difference of a figure."""
    ours, theirs = ([row[name] for row in points_of(one) if name in row] for one in (run, other))
    assert len(ours) == len(theirs) > 0
    return float(np.max(np.abs(np.array(ours) - np.array(theirs)) / np.abs(theirs)))


def adapters_apart(run: RunStore, other: RunStore) -> float:
    """‖difference‖ / ‖adapter‖."""
    ours, theirs = (load_file(one.adapter / "adapter_model.safetensors") for one in (run, other))
    assert ours.keys() == theirs.keys()
    flat = [torch.cat([tensors[name].double().flatten() for name in sorted(tensors)]) for tensors in (ours, theirs)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())
