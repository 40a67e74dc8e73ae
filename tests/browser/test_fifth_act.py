"""From a finished run to an adapter taken along: ask, evaluate, truncate, merge, download, and answer the same elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page

from lora_backend.runs.record.run_store import RunStore
from tests.browser.conftest import Dashboard, trained_here
from tests.browser.fifth_act import FifthAct
from tests.tiny import ANSWERS, QUESTIONS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
SLOW_S = 120
"""A process with torch starts and loads a model meanwhile, on a machine that does other things too."""


@pytest.fixture
def trained(tiny: Dashboard) -> RunStore:
    """A run that has learned the answers by heart."""
    rows = [
        {"messages": [{"role": "user", "content": question}], "expect": [answer.rpartition(" ")[0]]}
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ]
    (tiny.home / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "model_name": str(tiny.home / "tiny-model"), "dataset": str(tiny.home / "chats.jsonl"), "r": 8, "alpha": 16,
        "eval_dataset": str(tiny.home / "chats.jsonl"), "questions": str(tiny.home / "questions.jsonl"),
        "num_epochs": 30, "learning_rate": 0.02, "precision": "fp32", "logging_steps": 10,
    }  # fmt: skip
    return trained_here(tiny, config)


def test_a_finished_run_is_tried_measured_and_taken_along(
    tiny: Dashboard, trained: RunStore, page: Page, tmp_path: Path
) -> None:
    learned = trained.read_answers()[0]
    assert learned.adapter_correct
    assert learned.adapter_answer != learned.base_answer
    FifthAct(tiny, trained, page, SLOW_S).walk(learned, tmp_path)
