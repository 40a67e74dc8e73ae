"""A run's page while it trains and afterwards: its best checkpoint, and what the adapter answers on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_backend.installation import this_installation
from lora_backend.runs.checkpoints.manifest import write_manifest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.sample_document import Sample
from tests.pages.screens import show, texts
from tests.run_files import add_point, end_run, make_run, put_answers, set_attempt, set_status


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in (("WORKSPACE", "ws"), ("HOME", "home"), ("MODEL_ROOTS", ""), ("DATA_ROOTS", "")):
        monkeypatch.setenv(f"FLIGHTDECK_{name}", str(tmp_path / place))


def made(**config: Any) -> RunStore:
    run = make_run(
        this_installation().runs, config={"model_name": "m", **config}, config_text="", argv=["true"], attempt={}
    )
    for step, loss, accuracy in ((2, 1.5, 0.25), (4, 1.25, 0.5), (6, 2.0, 0.75)):
        add_point(run, {"step": step, "eval_loss": loss, "eval_token_accuracy": accuracy})
        path = run.checkpoints / f"checkpoint-{step}"
        path.mkdir(parents=True)
        write_manifest(path, step)
    return run


@pytest.mark.parametrize(
    ("config", "losses", "accuracies", "caption"),
    [
        ({}, ["2", "1.25 ★", "1.5"], ["0.75", "0.5", "0.25"], "the best evaluation loss; the run ends with the adapter of the last step"),
        ({"metric_for_best_model": "token_accuracy", "load_best_model_at_end": True}, ["2", "1.25", "1.5"], ["0.75 ★", "0.5", "0.25"], "the best evaluation token accuracy; the run ends with that checkpoint's adapter"),
    ],
    ids=["last", "best"],
)  # fmt: skip
def test_the_best_checkpoint_is_marked_where_it_is_the_best(
    config: dict[str, Any], losses: list[str], accuracies: list[str], caption: str
) -> None:
    run = made(**config)
    end_run(run, "finished")
    at = show("runs", run=run.id)
    (table,) = [frame.value for frame in at.dataframe if "Evaluation loss" in frame.value]
    assert table["Evaluation loss"].tolist() == losses
    assert table["Token accuracy"].tolist() == accuracies
    assert caption in texts(at)


def test_what_the_run_ended_with_is_marked_whatever_came_later() -> None:
    run = made(load_best_model_at_end=True)
    set_attempt(run, adapter_step=2)
    end_run(run, "finished")
    (table,) = [frame.value for frame in show("runs", run=run.id).dataframe if "Evaluation loss" in frame.value]
    assert table["Evaluation loss"].tolist() == ["2", "1.25", "1.5 ★"]


def test_the_best_step_stands_beside_the_last_one() -> None:
    run = made()
    set_status(run, total_steps=8, step=6, best_step=4)
    end_run(run, "finished")
    assert "best evaluation at step 4" in texts(show("runs", run=run.id))


def test_answers_are_shown_as_they_come_with_the_newest_first() -> None:
    run = made(questions="q.jsonl", sample_every_steps=2)
    for step in range(2, 12, 2):
        for question in ("How *tall*?", "How wide?"):
            run.append_sample(Sample(step=step, question=question, answer=f"{step} m [x](y)\x1b"))
    at = show("runs", run=run.id)
    said = texts(at)
    assert "While it trained" in said
    assert "How \\*tall\\*?" in said, "a question is text"
    captions = [caption.value for caption in at.caption if str(caption.value).startswith("Step ")]
    assert captions[:5] == ["Step 10", "Step 8", "Step 6", "Step 4", "Step 2"]
    assert "10 m [x](y)\\x1b" in [text.value for text in at.text]
    assert {expander.label for expander in at.expander} >= {"2 earlier answers"}
    put_answers(run, [{"question": "How *tall*?", "base_answer": "low", "adapter_answer": "high"}])
    end_run(run, "finished")
    at = show("runs", run=run.id)
    assert at.table[0].value["With the adapter"].tolist() == ["high"]
    assert "While it trained" in texts(at)


def test_in_chinese_nothing_is_left_in_english() -> None:
    run = made(questions="q.jsonl", load_best_model_at_end=True)
    run.append_sample(Sample(step=2, question="?", answer="!"))
    end_run(run, "finished")
    said = texts(show("runs", run=run.id, lang="zh"))
    for english in ("While it trained", "marks the best", "Step 2"):
        assert english not in said
