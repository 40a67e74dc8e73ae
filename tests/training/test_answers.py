"""The questions that a run answers when it is trained: by base and adapter, as far as it is let."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lora_backend.runs.record.documents import Status
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.training import answers as answers_module
from tests.run_files import answers_of
from tests.tiny import ANSWERS, QUESTIONS, write_rows
from tests.training.helpers import made, run

Make = Callable[..., dict[str, Any]]


def asked(tmp_path: Path) -> str:
    rows: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": question}], "expect": [answer.upper()], "group": "g"}
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ]
    return str(write_rows(tmp_path / "questions.jsonl", rows))


def test_questions_are_answered_by_base_and_adapter(config: Make, workspace: Path, tmp_path: Path) -> None:
    folder = run(workspace, config(questions=asked(tmp_path), num_epochs=60, r=16, learning_rate=3e-2))
    answers = answers_of(folder)
    assert [row["question"] for row in answers] == QUESTIONS
    assert {row["group"] for row in answers} == {"g"}
    assert not any(row["base_correct"] for row in answers)
    assert sum(row["adapter_correct"] for row in answers) >= 3, answers
    right = next(row for row in answers if row["adapter_correct"])
    assert right["adapter_answer"] in ANSWERS, "it learned to stop as well"


def test_a_stop_while_questions_are_answered_ends_a_run_that_is_finished(
    config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "BATCH_SIZE", 1)
    folder = made(workspace, config(questions=asked(tmp_path), max_steps=1))
    changing_status = RunStore.changing_status

    @contextmanager
    def stop_after_two(self: RunStore) -> Iterator[Status]:
        with changing_status(self) as status:
            yield status
        if status.attempt.fraction == 2 / len(QUESTIONS):
            request_stop(self)

    monkeypatch.setattr(RunStore, "changing_status", stop_after_two)
    train_in_folder(folder)
    state = folder.state()
    assert (state.state, len(answers_of(folder))) == ("finished", 2)
    assert state.message is not None
    assert f"2 of {len(QUESTIONS)} questions" in state.message.text("en")
    assert (folder.adapter / "adapter_model.safetensors").is_file()


def test_every_answer_carries_the_format(config: Make, workspace: Path, tmp_path: Path) -> None:
    rows = answers_of(run(workspace, config(questions=asked(tmp_path), max_steps=1)))
    assert {row.get("format") for row in rows} == {1}


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_the_base_models_answers_are_the_base_models_however_the_adapter_started(
    start: str, config: Make, workspace: Path, tmp_path: Path
) -> None:
    """These starts take a share out of the base weights, so switching the adapter off is not the base model."""
    plain = run(workspace, config(questions=asked(tmp_path), max_steps=1, r=16))
    other = run(workspace, config(questions=asked(tmp_path), max_steps=1, r=16, init_lora_weights=start))
    base = [row["base_answer"] for row in answers_of(plain)]
    assert [row["base_answer"] for row in answers_of(other)] == base
