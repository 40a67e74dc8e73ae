"""Questions of several sessions: none waits for another's, and one model is loaded at a time. The worker is a stand-in
that answers at once, or only when a file is there, so that the order is told and no clock."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend import worker_client
from lora_backend.errors import WorkerError
from lora_backend.worker_client import DIED, MOST, Request, WorkerClient
from tests.waiting import until

STAND_IN = """
import json, os, pathlib, sys, time
for line in sys.stdin:
    request = json.loads(line)
    params = request["params"]
    if "begun" in params:
        pathlib.Path(params["begun"]).touch()
    while "until" in params and not pathlib.Path(params["until"]).exists():
        time.sleep(0.01)
    print(json.dumps({"id": request["id"], "result": [request["method"], os.getpid()]}), flush=True)
"""


@pytest.fixture
def client() -> Iterator[WorkerClient]:
    own = WorkerClient([sys.executable, "-c", STAND_IN])
    yield own
    own.close()


@pytest.fixture
def never(tmp_path: Path) -> dict[str, Any]:
    """A question that ends when `end` is called, and else never."""
    return {"until": str(tmp_path / "end")}


def under_way(client: WorkerClient, method: str, params: dict[str, Any], folder: Path) -> Request:
    begun = folder / f"begun-{client._last_id}"
    request = client.submit(method, params | {"begun": str(begun)})
    until(begun.exists)
    return request


def test_a_short_question_is_answered_while_a_slow_one_goes_on(
    client: WorkerClient, never: dict[str, Any], tmp_path: Path
) -> None:
    slow = under_way(client, "profile", never, tmp_path)
    for method in ("profile", "read_health", "check_folder_ranks", "check_loaded_ranks"):
        assert client.ask(method, {}, 30)[0] == method
    assert not slow.done.is_set()


def test_a_short_question_does_not_wait_for_a_model_that_is_loaded(
    client: WorkerClient, never: dict[str, Any], tmp_path: Path
) -> None:
    loading = under_way(client, "check_loaded_ranks", never, tmp_path)
    assert client.ask("read_health", {}, 30)
    assert not loading.done.is_set()


def test_one_model_is_loaded_at_a_time(client: WorkerClient, never: dict[str, Any], tmp_path: Path) -> None:
    first = under_way(client, "check_loaded_ranks", never, tmp_path)
    second = client.submit("check_loaded_ranks", {})
    assert client.ask("read_health", {}, 30), "by another process"
    assert second.process is None
    (tmp_path / "end").touch()
    assert first.done.wait(30)
    assert second.done.wait(30)
    assert first.result == second.result, "by the same process"


def test_there_are_never_more_processes_than_allowed_and_what_waits_comes_in_its_order(
    client: WorkerClient, never: dict[str, Any], tmp_path: Path
) -> None:
    slow = [under_way(client, "profile", never, tmp_path) for _ in range(MOST["tracer"])]
    waiting = [client.submit(f"question {number}", {}) for number in range(3)]
    assert len(client.pids) == MOST["tracer"]
    client.cancel(waiting[1])
    assert str(waiting[1].error) == "The request was cancelled."
    client.cancel(slow[0])
    assert waiting[0].done.wait(30)
    assert waiting[2].done.wait(30)
    assert [waiting[0].result[0], waiting[2].result[0]] == ["question 0", "question 2"]
    assert not slow[1].done.is_set()
    assert len(client.pids) <= MOST["tracer"]


def test_a_cancelled_question_ends_its_own_process_alone(
    client: WorkerClient, never: dict[str, Any], tmp_path: Path
) -> None:
    mine, others = (under_way(client, "profile", never, tmp_path) for _ in range(2))
    client.cancel(mine)
    (tmp_path / "end").touch()
    assert others.done.wait(30)
    assert others.error is None


def test_questions_that_come_one_after_the_other_need_one_process(client: WorkerClient) -> None:
    assert len({client.ask("profile", {}, 30)[1] for _ in range(5)}) == 1
    assert len(client.pids) == 1


def test_while_a_question_takes_long_another_process_is_made_ready(
    client: WorkerClient, never: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_client, "SPARE_AFTER_S", 0.0)
    monkeypatch.setattr(worker_client, "SPARE_FOR_S", 0.0)
    assert client.ask("profile", {}, 30)  # the process is there, so that what takes long is the question
    slow = under_way(client, "profile", never, tmp_path)
    until(lambda: len(client.pids) == 2)
    spare = client.pids[1]
    assert client.ask("read_health", {}, 30)[1] == spare
    (tmp_path / "end").touch()
    assert slow.done.wait(30)
    until(lambda: len(client.pids) == 1)  # and not kept for ever


def test_a_first_question_gets_no_process_beside_it_before_torch_can_be_imported(
    client: WorkerClient, never: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []
    monkeypatch.setattr(worker_client, "_after", lambda seconds, *_: delays.append(seconds))
    first = under_way(client, "profile", never, tmp_path)
    (tmp_path / "end").touch()
    assert first.done.wait(30)
    assert client.ask("profile", {}, 30)
    assert delays == [worker_client.SPARE_AFTER_START_S, worker_client.SPARE_AFTER_S]
    assert worker_client.SPARE_AFTER_START_S > worker_client.SPARE_AFTER_S


def test_closing_fails_what_was_asked_and_starts_nothing(
    client: WorkerClient, never: dict[str, Any], tmp_path: Path
) -> None:
    asked = [under_way(client, "check_loaded_ranks", never, tmp_path), client.submit("check_loaded_ranks", {})]
    client.close()
    for request in asked:
        assert request.done.wait(30)
        assert isinstance(request.error, WorkerError)
        assert str(request.error) == DIED
    assert client.pids == []
