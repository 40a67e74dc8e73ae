"""The torch process and its client: questions, progress, errors, and every way to end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import WorkerError
from lora_backend.installation import child_environment
from lora_backend.runs.record.process_identity import identify, is_alive
from lora_backend.worker_client import WorkerClient
from tests.waiting import until

DIED = "ended before it answered"


@pytest.fixture(scope="module")
def client() -> Iterator[WorkerClient]:
    """One process for the questions that leave it as it is."""
    shared = WorkerClient()
    yield shared
    shared.close()


@pytest.fixture
def own_client() -> Iterator[WorkerClient]:
    """A process for the test that ends it."""
    own = WorkerClient()
    yield own
    own.close()


@pytest.fixture(scope="module")
def question(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from lora_backend.modeling.adapter import attach_adapter
    from lora_backend.modeling.load import load_model

    config = TrainingConfig(model_name=str(tiny_model), r=4, target_modules=["q_proj", "v_proj"], precision="fp32")
    adapter = tmp_path_factory.mktemp("adapter")
    attach_adapter(load_model(config), config).save_pretrained(adapter)
    return {"adapter": str(adapter), "model_name": str(tiny_model), "config": config.model_dump()}


def busy(client: WorkerClient, question: dict[str, Any]) -> Any:
    """A question that is under way: importing torch alone takes seconds."""
    request = client.submit("check_loaded_ranks", question)
    until(lambda: request.progress)
    return request


# --------------------------------------------------------------------------------------------------- questions


def test_no_process_is_started_before_it_is_asked() -> None:
    assert WorkerClient().pid is None


def test_a_question_is_answered_with_progress_on_the_way(client: WorkerClient, question: dict[str, Any]) -> None:
    request = client.submit("check_loaded_ranks", question)
    seen: list[float] = []
    while not request.done.wait(0.01):
        seen.append(request.fraction)
    assert request.error is None
    assert request.result["status"] == "ok"
    assert request.result["actual_r_values"]["model.layers.0.self_attn.q_proj"] == 4
    assert seen == sorted(seen)
    assert request.progress is not None
    assert request.progress.text("en") != request.progress.text("zh")


def test_who_asks_is_told_of_the_progress(client: WorkerClient, question: dict[str, Any]) -> None:
    said: list[str] = []
    client.ask("check_loaded_ranks", question, 120, lambda message, _: said.append(message.text("en")))
    assert len(said) == len(set(said)), "of each stage once"


def test_health_is_read_by_the_same_process(client: WorkerClient, question: dict[str, Any]) -> None:
    pid = client.pid
    records = client.ask("read_health", {"adapter": question["adapter"]}, 120)
    assert {record["name"] for record in records} == {
        f"model.layers.{block}.self_attn.{module}" for block in (0, 1) for module in ("q_proj", "v_proj")
    }
    assert all(record["adds_nothing"] for record in records), "B is zero before training"
    assert pid is None or client.pid == pid


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adapter": "/no/such/adapter"}, "adapter"),
        ({"model_name": "/no/such/model"}, "/no/such/model"),
        ({"model_name": "someone/some-model"}, "flightdeck download someone/some-model"),
    ],
    ids=str,
)
def test_what_cannot_be_loaded_is_one_sentence_and_the_process_lives_on(
    change: dict[str, Any], said: str, client: WorkerClient, question: dict[str, Any]
) -> None:
    with pytest.raises(WorkerError, match=said) as raised:
        client.ask("check_loaded_ranks", question | change, 120)
    assert "\n" not in str(raised.value)
    pid = client.pid
    assert client.ask("check_loaded_ranks", question, 120)["status"] == "ok"
    assert client.pid == pid


class Payload:
    """Pickled, it would make a folder when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("content", ["payload", b"", b"no pickle", b"\x80\x04K\x01."], ids=str)
def test_pickled_weights_run_no_code_and_are_named_in_a_sentence_of_ours(
    content: str | bytes, client: WorkerClient, question: dict[str, Any], tmp_path: Path
) -> None:
    import torch

    adapter = shutil.copytree(question["adapter"], tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").unlink()
    if isinstance(content, bytes):
        (adapter / "adapter_model.bin").write_bytes(content)
    else:
        torch.save(Payload(tmp_path / "ran"), adapter / "adapter_model.bin")
    for method in ("check_loaded_ranks", "check_folder_ranks"):
        with pytest.raises(WorkerError, match=r"adapter_model\.bin .*is damaged") as raised:
            client.ask(method, question | {"adapter": str(adapter)}, 120)
        assert "weights_only" not in str(raised.value)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"garbage", (2**40).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"{}"], ids=len)  # fmt: skip
def test_damaged_safetensors_are_a_sentence(
    content: bytes, client: WorkerClient, question: dict[str, Any], tmp_path: Path
) -> None:
    adapter = shutil.copytree(question["adapter"], tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").write_bytes(content)
    (adapter / "training_args.bin").write_bytes(b"garbage")  # which nothing opens
    said: list[str] = []
    for method in ("check_loaded_ranks", "read_health"):
        try:
            client.ask(method, question | {"adapter": str(adapter)}, 120)
        except WorkerError as error:
            said.append(str(error))
    assert said or len(content) == 10, "a header without tensors is whole"
    assert not any("The check failed with" in text or "\n" in text for text in said)


def test_a_method_that_is_none_is_a_sentence_and_not_the_end(client: WorkerClient) -> None:
    for params in ({}, {"adapter": "x"}):
        with pytest.raises(WorkerError, match="no_such_method"):
            client.ask("no_such_method", params, 60)
    assert client.pid


def test_questions_asked_at_once_get_each_its_own_answer(client: WorkerClient) -> None:
    def ask(number: int) -> str:
        with pytest.raises(WorkerError) as raised:
            client.ask(f"method_{number}", {}, 60)
        return str(raised.value)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert [f"'method_{number}'" in answer for number, answer in enumerate(answers)] == [True] * 8


# -------------------------------------------------------------------------------------------------------- ends


def test_a_death_is_answered_with_a_sentence_and_the_next_question_starts_another(
    own_client: WorkerClient, question: dict[str, Any]
) -> None:
    request = busy(own_client, question)
    pid = own_client.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert request.done.wait(10)
    assert DIED in str(request.error)
    with pytest.raises(WorkerError, match="no_such_method"):
        own_client.ask("no_such_method", {}, 60)
    assert own_client.pid not in (None, pid)


def test_a_death_in_the_middle_of_an_answer_is_one_too() -> None:
    """A report on a large model is longer than a pipe holds, so the line may end anywhere."""
    script = 'import os, sys; sys.stdin.readline(); sys.stdout.write(\'{"id": 1, "result": [1,\'); sys.stdout.flush(); os._exit(1)'
    client = WorkerClient([sys.executable, "-c", script])
    with pytest.raises(WorkerError, match=DIED):
        client.ask("anything", {}, 3)


def test_a_deadline_drops_the_question_and_ends_what_works_on_it(
    own_client: WorkerClient, question: dict[str, Any]
) -> None:
    with pytest.raises(WorkerError, match="no_such_method"):
        own_client.ask("no_such_method", {}, 60)
    identity = identify(own_client.pid or 0)
    assert identity
    facts = json.loads((Path(question["model_name"]) / "config.json").read_text())
    with pytest.raises(WorkerError, match="no answer within 1 s"):  # importing torch and tracing take longer than 0.6 s
        own_client.ask("profile", {"facts": facts, "config": question["config"]}, 0.6)
    assert not is_alive(identity)
    with pytest.raises(WorkerError, match="no_such_method"):
        own_client.ask("no_such_method", {}, 60)


def test_a_cancelled_question_ends_with_a_sentence(own_client: WorkerClient, question: dict[str, Any]) -> None:
    request = busy(own_client, question)
    own_client.cancel(request)
    assert request.done.wait(10)
    assert request.error is not None
    assert own_client.pid is None


def test_cancelling_what_is_answered_ends_nothing(client: WorkerClient) -> None:
    request = client.submit("no_such_method", {})
    assert request.done.wait(60)
    client.cancel(request)
    assert client.pid


@pytest.mark.parametrize("which", ["the waiting one", "the one under way"])
def test_cancelling_one_question_leaves_those_of_others(
    which: str, own_client: WorkerClient, question: dict[str, Any]
) -> None:
    """All sessions of a dashboard share the process; one of them must not take away another's answer."""
    first = busy(own_client, question)
    second = own_client.submit("check_loaded_ranks", question)
    dropped, other = (second, first) if which == "the waiting one" else (first, second)
    own_client.cancel(dropped)
    assert other.done.wait(120)
    assert other.error is None
    assert other.result["status"] == "ok"


def start_worker() -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "lora_backend.worker"],
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        text=True,
        env=child_environment(),
    )


@pytest.mark.parametrize("last", ["", '{"id": 1, "met'])
def test_the_end_of_its_input_ends_the_process_even_in_the_middle_of_a_line(last: str) -> None:
    worker = start_worker()
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        assert "ready" in worker.stdout.readline()
        worker.stdin.write(last)
        worker.stdin.close()
        worker.wait(5)
    except subprocess.TimeoutExpired:
        pytest.fail("the process goes on although nobody can ask it any more")
    finally:
        worker.kill()
        worker.wait()


def test_the_process_ends_with_the_client_that_was_killed_even_while_it_loads(question: dict[str, Any]) -> None:
    script = f"""
import time
from lora_backend.worker_client import WorkerClient
client = WorkerClient()
request = client.submit("check_loaded_ranks", {question!r})
while not request.progress:
    time.sleep(0.01)
print(client.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], env=child_environment(), stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    worker = identify(int(parent.stdout.readline()))
    assert worker
    assert is_alive(worker)
    parent.kill()
    parent.wait()
    until(lambda: not is_alive(worker))
