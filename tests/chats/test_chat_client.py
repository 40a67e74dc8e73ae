"""The client of the process that answers, against a stand-in for it: who comes when, stop, death, leaving. No clock decides."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.chats.chat_client import ChatClient
from lora_backend.chats.documents import Chat, Reply, Turn
from lora_backend.errors import ChatError
from lora_backend.installation import this_installation
from lora_backend.runs.record.job_documents import Column
from tests.waiting import until

STAND_IN = """
import json, os, pathlib, sys, threading, queue
questions, stopped = queue.Queue(), set()
def hear():
    for line in sys.stdin:
        said = json.loads(line)
        stopped.add(said["stop"]) if "stop" in said else questions.put(said)
    os._exit(0)
threading.Thread(target=hear, daemon=True).start()
def say(**said):
    print(json.dumps(said), flush=True)
questions.get()
while True:
    question = questions.get()
    number, chat = question["id"], question["params"]["chat"]
    prompt, label = chat["turns"][question["params"]["turn"]]["prompt"], question["params"]["labels"][0]
    if prompt == "die at once":
        os._exit(1)
    say(id=number, loaded={"base_model": chat["base_model"], "device": "cpu", "num_bytes": 7,
                           "device_name": {"template": "host", "values": {}}})
    say(id=number, is_completion=True)
    for word in ("one ", "two "):
        say(id=number, piece={"label": label, "text": word, "num_tokens": 1})
    if prompt == "die":
        os._exit(1)
    if prompt == "leave":
        say(leaving={"template": "{run} needs this GPU", "values": {"run": "r1"}})
        os._exit(0)
    if prompt == "fail":
        say(id=number, error={"template": "It cannot be", "values": {}})
        continue
    ended = "end"
    while prompt.startswith("wait "):
        if number in stopped:
            ended = "cancelled"
            break
        if pathlib.Path(prompt[5:]).exists():
            break
    say(id=number, reply={"label": label, "reply": {"text": "one two ", "ended": ended, "num_tokens": 2}})
    say(id=number, result={})
"""


@pytest.fixture
def client() -> Iterator[ChatClient]:
    own = ChatClient(this_installation(), argv=[sys.executable, "-c", STAND_IN])
    yield own
    own.close()


def chat(prompt: str, base_model: str = "base", **replies: Reply) -> Chat:
    columns = [Column(label="base"), Column(label="adapter", adapter="/a")]
    return Chat(id="c", base_model=base_model, columns=columns, turns=[Turn(prompt=prompt, replies=replies)])


def under_way(client: ChatClient, prompt: str, **options: Any) -> Any:
    answering = client.answer(chat(prompt, **options), 0, ["base"])
    until(lambda: answering.replies["base"].text == "one two ")
    return answering


def test_no_process_is_started_before_something_is_asked(client: ChatClient) -> None:
    assert (client.pid, client.model()) == (None, None)
    with pytest.raises(ChatError, match="The prompt is empty"):
        client.answer(chat(""), 0, ["base"])
    assert client.pid is None


def test_an_answer_is_read_as_it_is_written_and_what_was_read_is_not_changed(
    client: ChatClient, tmp_path: Path
) -> None:
    answering = under_way(client, f"wait {tmp_path / 'go'}")
    before, first = answering.replies, answering.replies["base"]
    assert (answering.progress, answering.is_completion, first.ended) == (None, True, None)
    (tmp_path / "go").touch()
    assert answering.done.wait(30)
    assert (answering.error, answering.replies["base"].ended, answering.replies["base"].num_tokens) == (None, "end", 2)
    assert before["base"] is first
    assert first.ended is None
    loaded = client.model()
    assert loaded is not None
    assert (loaded.base_model, loaded.device, loaded.num_bytes, loaded.ends_after_s) == ("base", "cpu", 7, 600.0)


def test_who_asks_second_waits_with_a_sentence_and_is_answered_next(client: ChatClient, tmp_path: Path) -> None:
    first = under_way(client, f"wait {tmp_path / 'go'}")
    others = [client.answer(chat("next"), 0, ["base"]) for _ in range(2)]
    said = [other.progress.text("en") for other in others if other.progress]
    assert said == [f"Waiting for {number}." for number in ("1 earlier answer", "2 earlier answers")]
    others[0].stop()
    assert others[0].replies["base"].ended == "cancelled"
    assert others[1].progress is not None
    assert "1 earlier answer" in others[1].progress.text("en")
    (tmp_path / "go").touch()
    assert others[1].done.wait(30)
    assert first.done.is_set()
    assert others[1].replies["base"].ended == "end"


def test_a_stop_ends_the_answer_and_not_the_process(client: ChatClient) -> None:
    answering = under_way(client, "wait /no/such/file")
    pid = client.pid
    answering.stop()
    assert answering.done.wait(30)
    reply = answering.replies["base"]
    assert (reply.text, reply.ended, answering.error) == ("one two ", "cancelled", None)
    assert client.answer(chat("again"), 0, ["base"]).done.wait(30)
    assert client.pid == pid


@pytest.mark.parametrize(
    ("prompt", "said"), [("die", "ended in the middle of this answer"), ("leave", "r1 needs this GPU")]
)
def test_an_answer_whose_process_ends_says_why_and_the_next_starts_another(
    prompt: str, said: str, client: ChatClient
) -> None:
    answering = client.answer(chat(prompt), 0, ["base"])
    assert answering.done.wait(30)
    reply = answering.replies["base"]
    assert said in str(answering.error)
    assert reply.error is not None
    assert (reply.text, reply.ended) == ("one two ", "failed"), "what was written stays"
    assert said in reply.error.text("en")
    until(lambda: client.model() is None)
    again = client.answer(chat("next"), 0, ["base"])
    assert again.done.wait(30)
    assert again.replies["base"].ended == "end"


def test_a_killed_process_is_one_sentence(client: ChatClient) -> None:
    answering = under_way(client, "wait /no/such/file")
    assert client.pid
    os.kill(client.pid, signal.SIGKILL)
    assert answering.done.wait(30)
    assert "Ask again to restart it" in str(answering.error)


def test_one_that_dies_before_it_says_anything_is_no_endless_start(client: ChatClient) -> None:
    answering = client.answer(chat("die at once"), 0, ["base"])
    assert answering.done.wait(30)
    assert answering.error is not None


def test_what_the_process_refuses_is_the_answers_error_and_the_process_lives_on(client: ChatClient) -> None:
    answering = client.answer(chat("fail"), 0, ["base"])
    assert answering.done.wait(30)
    assert (str(answering.error), answering.replies["base"].ended) == ("It cannot be", "failed")
    pid = client.pid
    assert client.answer(chat("next"), 0, ["base"]).done.wait(30)
    assert client.pid == pid


def test_another_base_model_has_a_process_to_itself_and_the_first_is_gone_by_then(client: ChatClient) -> None:
    first = client.answer(chat("next", "one"), 0, ["base"])
    assert first.done.wait(30)
    pid = client.pid
    second = client.answer(chat("next", "two"), 0, ["base"])
    assert second.done.wait(30)
    loaded = client.model()
    assert loaded is not None
    assert (loaded.base_model, client.pid != pid) == ("two", True)
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_unload_frees_the_memory_and_says_so_to_who_is_answered(client: ChatClient) -> None:
    answering = under_way(client, "wait /no/such/file")
    client.unload()
    assert answering.done.wait(30)
    assert "was unloaded" in str(answering.error)
    assert (client.pid, client.model()) == (None, None)


def test_the_disagreement_is_asked_of_an_adapter_that_has_answered(client: ChatClient) -> None:
    with pytest.raises(ChatError, match="is the base model itself"):
        client.disagreement(chat("next", base=Reply(text="a")), 0, "base")
    with pytest.raises(ChatError, match="has not answered"):
        client.disagreement(chat("next"), 0, "adapter")
    assert client.disagreement(chat("next", adapter=Reply(text="a")), 0, "adapter").done.wait(30)
