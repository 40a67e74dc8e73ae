"""A run that wants a GPU on which a model is tried gets it: asked by a file, given up in the middle of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.chats.chat_client import ChatClient
from lora_backend.chats.documents import Chat, Sampling, Turn
from lora_backend.installation import this_installation
from lora_backend.runs.processes.lease_requests import GIVEN_UP_WITHIN_S, ask_for, is_wanted, wait_for_chats
from lora_backend.runs.processes.leases import holders, release, take
from lora_backend.runs.processes.queue import start_or_queue, waiting_for
from lora_backend.runs.record.job_documents import Column
from lora_backend.runs.record.transitions import request_stop
from lora_backend.views.queue_view import waiting_messages
from tests.hardware.nvml import stub_environment
from tests.runs.stand_in import TRAIN, Make, let_end
from tests.tiny import make_model
from tests.waiting import until

GPU = "GPU-aa"


@pytest.fixture
def tried(tmp_path: Path) -> Iterator[Path]:
    """A lease as a process that tries a model holds it."""
    held = take(tmp_path / "leases", [GPU, "cpu"], tmp_path / "chats")
    assert held is not None
    yield tmp_path / "leases"
    release(held)


def test_a_run_that_waits_is_asked_for_until_it_waits_no_more(make: Make, tmp_path: Path, tried: Path) -> None:
    run = make(TRAIN, GPU, state="queued")
    assert is_wanted(tried, GPU) is None
    assert not start_or_queue(run, tmp_path)
    assert is_wanted(tried, GPU) == run.id
    assert is_wanted(tried, "GPU-other") is None
    said = [message.text("en") for message in waiting_messages(waiting_for(run, tmp_path))]
    assert "A model on the Try page is using its device and is making room now." in said
    assert not any("chats" in sentence for sentence in said)
    request_stop(run)
    until(lambda: is_wanted(tried, GPU) is None, "a cancelled run wants nothing")
    assert not list(tried.glob("*.wanted"))


def test_nobody_is_asked_to_give_up_the_cpu_or_what_a_run_holds(make: Make, tmp_path: Path, tried: Path) -> None:
    run = make(TRAIN, state="queued")
    ask_for(tried, ["cpu"], run.path)
    assert not list(tried.glob("*.wanted"))
    held = take(tried, ["GPU-bb"], tmp_path / "runs" / "other")
    ask_for(tried, ["GPU-bb"], run.path)
    wait_for_chats(tried, ["GPU-bb", "cpu"], run.path)
    assert not list(tried.glob("*.wanted"))
    release(held or [])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"path": "/etc"}', '{"path": "../../x"}', '{"path": 5}'])
def test_a_request_that_names_no_run_here_means_nothing(text: str, tried: Path) -> None:
    (tried / f"{GPU}.wanted").write_text(text)
    assert is_wanted(tried, GPU) is None


def test_a_chat_on_the_cpu_holds_nothing_so_a_run_starts_at_once(make: Make, tmp_path: Path) -> None:
    held = take(tmp_path / "leases", [GPU], tmp_path / "chats")
    run = make(TRAIN, state="queued")
    assert start_or_queue(run, tmp_path)
    until(lambda: run.state().state == "running")
    let_end(run)
    until(run.exit_json.exists)
    release(held or [])


def test_a_real_process_gives_its_gpu_up_in_the_middle_of_an_answer(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is the stub library that shows a GPU; torch, which has none, computes on the CPU all the same."""
    description = f"gpu name=Stub, uuid={GPU}, gib=80, used_gib=2, cc=9.0"
    for name, value in stub_environment(tmp_path, description).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tmp_path))
    base = make_model(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 10**6}))
    client = ChatClient(this_installation())
    long: Any = Chat(
        id="c", base_model=str(base), columns=[Column(label="base")], turns=[Turn(prompt="when")],
        sampling=Sampling(max_new_tokens=30_000),
    )  # fmt: skip
    try:
        answering = client.answer(long, 0, ["base"])
        until(lambda: answering.replies["base"].num_tokens > 3, "it answers", 240)
        loaded = client.model()
        assert loaded is not None
        assert (loaded.device, loaded.device_name.text("en")) == (GPU, "GPU 0 (Stub)")
        assert [holder.pid for holder in holders(tmp_path / "leases", [GPU])] == [client.pid]
        run = make(TRAIN, GPU, state="queued")
        assert not start_or_queue(run, tmp_path)
        assert answering.done.wait(GIVEN_UP_WITHIN_S), "given up in time"
        reply = answering.replies["base"]
        assert reply.error is not None
        assert f"{run.id} needs this GPU" in reply.error.text("en")
        assert (reply.ended, bool(reply.text)) == ("failed", True)
        until(lambda: run.state().state == "running", "the run has it")
        assert client.pid is None
        again = client.answer(long.but(sampling=Sampling(max_new_tokens=2)), 0, ["base"])
        assert again.done.wait(240)
        assert again.error is None
        loaded = client.model()
        assert loaded is not None
        assert loaded.device == "cpu", "beside the run the chat goes on in host memory"
        let_end(run)
        until(run.exit_json.exists)
    finally:
        client.close()
