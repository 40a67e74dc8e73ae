"""Counts are kept by content: of the rows, of the tokenizer's files, and of the settings that change them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_backend.data import kept_reports
from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport
from lora_backend.data.kept_reports import find_report, keep_report
from lora_backend.installation import Installation, this_installation
from tests.tiny import stub_model

REPORT = DataReport(form="messages", rows=3, bad_rows=[], num_bad_rows=0, duplicates=1, notes=[], sha256="ab")


@pytest.fixture
def places(tmp_path: Path) -> Installation:
    return this_installation({"FLIGHTDECK_HOME": str(tmp_path / "home"), "FLIGHTDECK_WORKSPACE": str(tmp_path / "ws")})


@pytest.fixture
def question(tmp_path: Path) -> DataQuestion:
    return DataQuestion("/data/d.jsonl", model=str(stub_model(tmp_path / "model")))


def test_what_was_counted_is_found_wherever_rows_and_model_lie(
    question: DataQuestion, places: Installation, tmp_path: Path
) -> None:
    assert find_report(question, "ab", places) is None
    keep_report(question, REPORT, places)
    assert find_report(question, "ab", places) == REPORT
    elsewhere = replace(question, path="/elsewhere/e.jsonl", model=str(stub_model(tmp_path / "copy")))
    assert find_report(elsewhere, "ab", places) == REPORT


@pytest.mark.parametrize("change", [{"max_length": 8}, {"train_on": "last_answer"}, {"seed": 1}, {"data_columns": {"text": "t"}}, {"model": None}])  # fmt: skip
def test_other_settings_are_counted_anew(change: dict[str, Any], question: DataQuestion, places: Installation) -> None:
    keep_report(question, REPORT, places)
    assert find_report(replace(question, **change), "ab", places) is None
    assert find_report(question, "cd", places) is None, "other rows"


def test_a_changed_template_is_noticed(question: DataQuestion, places: Installation) -> None:
    keep_report(question, REPORT, places)
    (Path(str(question.model)) / "chat_template.jinja").write_text("{{ messages }}")
    assert find_report(question, "ab", places) is None


def test_a_damaged_file_is_counted_anew(question: DataQuestion, places: Installation) -> None:
    keep_report(question, REPORT, places)
    (kept,) = (places.cache / "data_reports").iterdir()
    for text in ("", "[]", "{}", json.dumps({**REPORT.to_json(), "format": 9})):
        kept.write_text(text)
        assert find_report(question, "ab", places) is None


def test_the_oldest_go_where_there_are_very_many(
    question: DataQuestion, places: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_reports, "MOST_KEPT", 2)
    for seed in range(3):
        keep_report(replace(question, seed=seed), REPORT, places)
        for kept in (places.cache / "data_reports").iterdir():
            os.utime(kept, (kept.stat().st_mtime - 10,) * 2)
    assert [find_report(replace(question, seed=seed), "ab", places) is None for seed in range(3)] == [
        True,
        False,
        False,
    ]


def test_a_question_passes_through_a_pipe(question: DataQuestion) -> None:
    said = json.loads(json.dumps({**question.to_json(), "rows": [1], "unknown": 2}))
    assert DataQuestion.from_json(said) == question
