"""Questions that are answered while a run trains: as they come, and without a trace in what is learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.training import reporter as reporter_module
from lora_backend.training import samples as samples_module
from lora_backend.training.reporter import RunReporter
from tests.run_files import points_of
from tests.tiny import QUESTIONS, write_rows
from tests.training.helpers import adapter_bytes, at_line, curve, made, resumed, run

Make = Callable[..., dict[str, Any]]
HARD: dict[str, Any] = {
    "lora_dropout": 0.1, "batch_size": 2, "target_batch_size": 4, "num_epochs": 2, "logging_steps": 1, "save_steps": 3,
    "val_size": 0.25, "eval_strategy": "steps", "eval_steps": 2,
}  # fmt: skip
"""Six steps."""


def questions(folder: Path, count: int = 2) -> str:
    asked: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": f"{QUESTIONS[number % len(QUESTIONS)]} {number}"}], "expect": ["x"]}
        for number in range(count)
    ]
    return str(write_rows(folder / "questions.jsonl", asked))


def samples_of(folder: RunStore) -> list[tuple[int, str, str]]:
    return [(one.step, one.question, one.answer) for one in folder.read_samples()]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"batching": "padded", "fused_lora": False},
        {"gradient_checkpointing": True, "loss_type": "nll"},
        pytest.param({"torch_compile": True, "lora_dropout": 0.0}, marks=pytest.mark.soak),
    ],
    ids=str,
)
def test_what_is_learned_is_the_same_to_the_bit_with_and_without_them(
    keys: dict[str, Any], config: Make, workspace: Path, tmp_path: Path
) -> None:
    values = config(**HARD | keys, questions=questions(tmp_path))
    silent, asked = run(workspace, values), run(workspace, values | {"sample_every_steps": 2})
    assert curve(asked) == curve(silent)
    assert adapter_bytes(asked) == adapter_bytes(silent)
    assert samples_of(silent) == []
    steps = [step for step, _, _ in samples_of(asked)]
    assert steps == [2, 2, 4, 4, 6, 6]
    final = [(6, answer.question, answer.adapter_answer) for answer in asked.read_answers()]
    assert samples_of(asked)[-2:] == final, "they are the adapter's, as it was at that step"
    assert len(set(samples_of(asked))) == 6


def test_at_most_eight_are_asked(config: Make, workspace: Path, tmp_path: Path) -> None:
    folder = run(workspace, config(max_steps=1, sample_every_steps=1, questions=questions(tmp_path, 11)))
    assert [question for _, question, _ in samples_of(folder)] == [
        answer.question for answer in folder.read_answers()[:8]
    ]


def test_without_questions_nothing_is_asked(config: Make, workspace: Path) -> None:
    folder = run(workspace, config(max_steps=2, sample_every_steps=1))
    assert folder.state().state == "finished"
    assert not folder.samples_jsonl.exists()


@pytest.mark.parametrize("step", [3, 4, 5])
def test_a_run_that_was_stopped_has_each_sample_once(step: int, config: Make, workspace: Path, tmp_path: Path) -> None:
    """Step 4 has one, which the stop leaves to the start that comes after."""
    values = config(**HARD, questions=questions(tmp_path), sample_every_steps=2)
    whole, folder = run(workspace, values), made(workspace, values)
    with at_line(f"step {step} of", lambda: request_stop(folder)):
        train_in_folder(folder)
    assert [one for one, _, _ in samples_of(folder)] == [2, 2, *([4, 4] if step > 4 else [])]
    assert samples_of(resumed(folder)) == samples_of(whole)
    assert adapter_bytes(folder) == adapter_bytes(whole)


def test_samples_beyond_the_checkpoint_are_taken_back_with_the_points(
    config: Make, workspace: Path, tmp_path: Path
) -> None:
    values = config(**HARD, questions=questions(tmp_path), sample_every_steps=2)
    whole, folder = run(workspace, values), made(workspace, values)

    def kill() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), at_line("step 5 of", kill):
        train_in_folder(folder)
    assert [one for one, _, _ in samples_of(folder)] == [2, 2, 4, 4]
    with folder.samples_jsonl.open("a") as file:
        file.write('{"step": 4, "quest')
    assert samples_of(resumed(folder)) == samples_of(whole)
    taken_back = folder.attempt_samples_jsonl(2).read_text().splitlines()
    assert len(taken_back) == 3, "checkpoint 3 is gone on from"
    assert curve(folder) == curve(whole)


def test_a_stop_between_two_tokens_leaves_the_whole_sample_to_the_next_start(
    config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = config(**HARD, questions=questions(tmp_path), sample_every_steps=2)
    whole, folder = run(workspace, values), made(workspace, values)

    def stopped(*_: Any) -> list[str | None]:
        request_stop(folder)
        return ["whole", None]

    with monkeypatch.context() as patch:
        patch.setattr(samples_module, "answer_until", stopped)
        train_in_folder(folder)
    assert (folder.state().state, folder.state().step, samples_of(folder)) == ("stopped", 2, [])
    assert samples_of(resumed(folder)) == samples_of(whole)
    assert adapter_bytes(folder) == adapter_bytes(whole)


def test_no_run_ends_for_want_of_memory_for_a_sample(
    config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(samples_module, "answer_until", refuse)
    folder = run(workspace, config(max_steps=2, sample_every_steps=1, questions=questions(tmp_path)))
    assert folder.state().state == "finished"
    assert samples_of(folder) == []
    assert "this sample is left out" in folder.train_log.read_text()


def test_their_time_does_not_count_as_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(reporter_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    reporter = RunReporter(RunStore(tmp_path))
    reporter.begins(0, 10)
    now[0] = 2.0
    with reporter.time_out():
        now[0] = 100.0
    now[0] = 101.0
    reporter.num_tokens = 300
    reporter.trained(1, 0.1, loss=1.0, learning_rate=1.0, grad_norm=1.0)
    assert points_of(RunStore(tmp_path))[0]["tokens_per_s"] == 100.0
