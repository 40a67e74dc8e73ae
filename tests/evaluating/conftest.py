"""A tiny run that was trained once, and evaluations of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.commands.job import in_foreground
from lora_backend.installation import this_installation
from lora_backend.runs.record.evaluation_documents import EvaluateResult
from lora_backend.runs.record.job_documents import Column, EvaluateRequest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.trainer.direct_run import train_in_folder
from tests.run_files import make_run
from tests.tiny import ANSWERS, QUESTIONS, chats, write_rows
from tests.untraced import planned_by_formula

Evaluate = Callable[..., tuple[RunStore, int]]


def questions(path: Path) -> Path:
    rows: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": question}], "expect": [answer.split()[-1]], "group": group}
        for question, answer, group in zip(QUESTIONS, ANSWERS, ("short", "short", "long", "long"), strict=True)
    ]
    return write_rows(path, rows)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace that the module's tests share."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MODEL_ROOTS", "DATA_ROOTS"):
            patch.setenv(f"FLIGHTDECK_{name}", str(folder))
        patch.setenv("FLIGHTDECK_WORKSPACE", str(folder / "ws"))
        with planned_by_formula(tmp_path_factory.getbasetemp() / "by_formula"):
            yield folder


@pytest.fixture(scope="module")
def trained(place: Path, tiny_model: Path) -> RunStore:
    """It learned all four answers; its evaluation has all of its rows in one batch."""
    data = write_rows(place / "chats.jsonl", chats())
    values: dict[str, Any] = {
        "model_name": str(tiny_model), "dataset": str(data), "r": 16, "alpha": 8, "num_epochs": 60, "learning_rate": 3e-2,
        "batch_size": 4, "save_steps": 40, "save_total_limit": 9, "precision": "fp32", "eval_dataset": str(write_rows(place / "held_out.jsonl", chats(1))),
        "eval_strategy": "steps", "eval_steps": 240, "questions": str(questions(place / "questions.jsonl")),
    }  # fmt: skip
    folder = make_run(place / "ws" / "runs", config=values, config_text="", argv=None, name="Tiny")
    train_in_folder(folder)
    return folder


@pytest.fixture
def evaluate(trained: RunStore, tiny_model: Path) -> Evaluate:
    """Evaluate base model and the run's adapter; keywords are fields of the request."""

    def evaluated(**asked: Any) -> tuple[RunStore, int]:
        columns = [Column(label="base"), Column(label="adapter", adapter=str(trained.adapter))]
        fields: dict[str, Any] = {
            "base_model": str(tiny_model), "columns": columns, "values": {"precision": "fp32"}, "of_run": trained.id
        }  # fmt: skip
        request = EvaluateRequest(**(fields | asked))
        return in_foreground(request, this_installation(), name="An evaluation")

    return evaluated


def result_of(folder: RunStore) -> EvaluateResult:
    result = folder.read_result(EvaluateResult)
    assert result is not None, folder.state()
    return result
