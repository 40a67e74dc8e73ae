"""Counting and showing rows by the torch process: answers, progress, and a way out in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import report_of
from lora_backend.data.kept_reports import find_report
from lora_backend.data.rendered_row import rows_of
from lora_backend.errors import WorkerError
from lora_backend.installation import this_installation
from lora_backend.runs.record.process_identity import identify, is_alive
from lora_backend.worker_client import WorkerClient
from tests.tiny import chats, save_tokenizer, stub_model, write_rows
from tests.waiting import until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("counts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIGHTDECK_HOME", str(root / "home"))
        patch.setenv("FLIGHTDECK_WORKSPACE", str(root / "ws"))
        save_tokenizer(stub_model(root / "m"))
        yield root


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[WorkerClient]:
    shared = WorkerClient()
    yield shared
    shared.close()


def test_counts_and_rows_come_back_as_they_are_and_no_run_is_made(client: WorkerClient, home: Path) -> None:
    question = DataQuestion(str(write_rows(home / "d.jsonl", chats())), model=str(home / "m"))
    said: list[str] = []
    report = report_of(client.ask("count_data", question.to_json(), on_progress=lambda message, _: said.append(message.text("en"))))  # fmt: skip
    assert report.counts is not None
    assert (report.rows, report.counts.longest) == (16, 15)
    assert find_report(question, report.sha256, this_installation()) == report, "kept for whoever asks next"
    assert said
    shown = rows_of(client.ask("show_rows", {**question.to_json(), "rows": [2]}))
    assert "".join(piece.text for piece in shown.rows[0].pieces).endswith("anna built the bridge</s>")
    found = rows_of(client.ask("show_rows", {**question.to_json(), "search": "leaves at noon"}))
    assert [row.row for row in found.rows] == [4, 8, 12, 16]
    assert not (home / "ws" / "runs").exists()


def test_what_cannot_be_read_is_a_sentence(client: WorkerClient, home: Path) -> None:
    with pytest.raises(WorkerError, match="There is no data set"):
        client.ask("count_data", DataQuestion(str(home / "gone.jsonl"), model=str(home / "m")).to_json())


def test_a_count_is_cancelled_in_the_middle_and_the_next_question_answered(client: WorkerClient, home: Path) -> None:
    question = DataQuestion(str(write_rows(home / "many.jsonl", chats(15_000))), model=str(home / "m"))
    request = client.submit("count_data", question.to_json())
    until(lambda: request.progress is not None and request.progress.text("en") == "Counting tokens", "it counts")
    assert request.process is not None
    counting = identify(request.process.popen.pid)
    client.cancel(request)
    assert request.done.is_set()
    assert request.error is not None
    assert counting is None or not is_alive(counting)
    small = DataQuestion(str(write_rows(home / "d.jsonl", chats())), model=str(home / "m"))
    assert client.ask("count_data", small.to_json())["rows"] == 16
