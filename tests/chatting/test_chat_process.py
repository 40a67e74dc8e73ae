"""The real process on the tiny model, through the client: streams, stops, dies, has no template, no room, no such adapter."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.chats.answering import Answering
from lora_backend.chats.chat_client import ChatClient
from lora_backend.chats.documents import Chat, Reply, Sampling, Turn
from lora_backend.installation import this_installation
from lora_backend.runs.record.job_documents import Column
from tests.chatting.adapters import make_adapter
from tests.tiny import make_model
from tests.waiting import until

LONG = Sampling(max_new_tokens=30_000)


class World:
    """A tiny model that reads a million tokens, an adapter of it, and a client."""

    def __init__(self, folder: Path) -> None:
        self.base = make_model(folder / "base")
        config = json.loads((self.base / "config.json").read_text())
        (self.base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 10**6}))
        self.adapter = make_adapter(folder / "adapter", self.base)
        self.client = ChatClient(this_installation())

    def chat(self, prompt: str = "who built the bridge", **changes: Any) -> Chat:
        columns = [Column(label="base"), Column(label="adapter", adapter=str(self.adapter))]
        turns = [Turn(prompt=prompt)]
        return Chat(id="c", base_model=str(self.base), columns=columns, turns=turns).but(**changes)

    def ask(self, chat: Chat, *labels: str) -> Answering:
        return self.client.answer(chat, 0, labels or ("base", "adapter"))

    def answered(self, chat: Chat, *labels: str) -> Answering:
        answering = self.ask(chat, *labels)
        assert answering.done.wait(240)
        return answering


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIGHTDECK_WORKSPACE", str(folder / "ws"))
        patch.setenv("FLIGHTDECK_MODEL_ROOTS", str(folder))
        made = World(folder)
        yield made
        made.client.close()


def test_two_columns_are_answered_side_by_side_and_each_as_generate_would(world: World) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    answering = world.ask(world.chat(sampling=Sampling(max_new_tokens=12)))
    said = set()
    while not answering.done.wait(0.005):
        said.add(answering.progress.text("en") if answering.progress else None)
    assert {"Starting torch and PEFT", "Loading the base model"} & said, "progress on the way"
    assert (answering.error, answering.is_completion) == (None, False)
    tokenizer = AutoTokenizer.from_pretrained(world.base)
    given = tokenizer.apply_chat_template(
        [{"role": "user", "content": "who built the bridge"}], add_generation_prompt=True, return_tensors="pt"
    )
    dtype = "auto" if not torch.cpu._is_avx512_bf16_supported() else torch.bfloat16
    base = AutoModelForCausalLM.from_pretrained(world.base, dtype=dtype).eval()
    for label in ("base", "adapter"):
        model = base if label == "base" else PeftModel.from_pretrained(base, str(world.adapter)).eval()
        output = model.generate(**given, max_new_tokens=12, do_sample=False, eos_token_id=[2])
        wanted = tokenizer.decode(output[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
        reply = answering.replies[label]
        assert reply.text == wanted, label
        assert reply.ended in ("end", "length")
        assert reply.num_tokens <= 12
        assert (reply.first_token_s or 0) > 0
        assert (reply.seconds or 0) > 0


def test_answers_stream_in_turn_and_a_stop_ends_both_between_two_tokens(world: World) -> None:
    answering = world.ask(world.chat(sampling=LONG))
    until(lambda: min(reply.num_tokens for reply in answering.replies.values()) > 3)
    one, other = (answering.replies[label].num_tokens for label in ("base", "adapter"))
    assert abs(one - other) <= 2, "token by token"
    answering.stop()
    assert answering.done.wait(60)
    replies = answering.replies.values()
    assert {reply.ended for reply in replies} == {"cancelled"}
    assert all(3 < reply.num_tokens < 30_000 and reply.text for reply in replies)
    assert answering.error is None


def test_the_base_model_is_loaded_once_and_columns_come_and_go(world: World, tmp_path: Path) -> None:
    world.answered(world.chat(), "base")
    pid, loaded = world.client.pid, world.client.model()
    assert loaded is not None
    other = make_adapter(world.base.parent / "other", world.base, seed=5, target_modules=["up_proj"])
    columns = [Column(label="third", adapter=str(other)), Column(label="adapter", adapter=str(world.adapter))]
    answering = world.ask(world.chat(columns=columns), "third", "adapter")
    said = set()
    while not answering.done.wait(0.002):
        said.add(answering.progress.text("en") if answering.progress else None)
    assert "Loading the base model" not in said
    assert answering.replies["third"].text != answering.replies["adapter"].text
    assert world.client.pid == pid
    now = world.client.model()
    assert now is not None
    assert (now.base_model, now.device) == (str(world.base), "cpu")
    assert now.num_bytes >= loaded.num_bytes


def test_the_disagreement_fills_the_replys_tokens(world: World) -> None:
    answering = world.answered(world.chat(sampling=Sampling(max_new_tokens=8)), "adapter")
    reply = answering.replies["adapter"]
    asked = world.chat(turns=[Turn(prompt="who built the bridge", replies={"adapter": reply})])
    found = world.client.disagreement(asked, 0, "adapter")
    assert found.done.wait(60)
    filled = found.replies["adapter"]
    assert filled.tokens
    assert filled.but(tokens=None) == reply.but(tokens=None)
    assert "".join(token.text for token in filled.tokens) == reply.text
    assert max(token.kl for token in filled.tokens) > 0


def test_an_adapter_outside_the_roots_and_one_of_another_base_are_refused_by_name(world: World) -> None:
    outside = world.chat(columns=[Column(label="mine", adapter="/etc")])
    assert "is outside the folders" in str(world.answered(outside, "mine").error)
    other = make_model(world.base.parent / "another", blocks=3)
    foreign = make_adapter(world.base.parent / "foreign", other)
    answering = world.answered(world.chat(columns=[Column(label="mine", adapter=str(foreign))]), "mine")
    assert "mine was trained on" in str(answering.error)
    assert world.answered(world.chat(), "base").error is None, "the others go on"


def test_a_hundred_thousand_characters_are_answered_where_the_model_reads_them(world: World) -> None:
    prompt = ("the door " * 12_000)[:100_000]
    answering = world.ask(world.chat(prompt, sampling=Sampling(max_new_tokens=2)), "base")
    until(lambda: answering.done.is_set() or answering.progress is None or "Loading" in answering.progress.text("en"))
    answering.stop()
    assert answering.done.wait(120)
    assert answering.error is None


def test_a_reply_in_the_middle_of_the_chat_is_each_columns_own(world: World) -> None:
    turns = [
        Turn(prompt="who built the bridge", replies={"base": Reply(text="anna"), "adapter": Reply(text="noon noon")}),
        Turn(prompt="when does the train leave"),
    ]
    chat = world.chat(turns=turns, sampling=Sampling(max_new_tokens=6))
    answering = world.client.answer(chat, 1, ["base", "adapter"])
    assert answering.done.wait(120)
    swapped = world.client.answer(
        chat.but(turns=[turns[0].but(replies={"base": Reply(text="noon noon")}), turns[1]]), 1, ["base"]
    )
    assert swapped.done.wait(60)
    assert answering.error is swapped.error is None
    assert answering.replies["base"].num_tokens == 6 or answering.replies["base"].ended == "end"


def test_a_process_that_is_killed_in_the_middle_of_an_answer_is_a_sentence_and_starts_again(world: World) -> None:
    answering = world.ask(world.chat(sampling=LONG))
    until(lambda: min(reply.num_tokens for reply in answering.replies.values()) > 3)
    assert world.client.pid
    os.kill(world.client.pid, signal.SIGKILL)
    assert answering.done.wait(30)
    assert "ended in the middle of this answer" in str(answering.error)
    assert {reply.ended for reply in answering.replies.values()} == {"failed"}
    assert all(reply.text for reply in answering.replies.values()), "what was written stays"
    assert world.answered(world.chat(sampling=Sampling(max_new_tokens=2))).error is None


def test_the_process_ends_with_whoever_started_it(world: World) -> None:
    world.answered(world.chat(sampling=Sampling(max_new_tokens=2)), "base")
    process = world.client._process
    assert process is not None
    assert process.popen.stdin is not None
    process.popen.stdin.close()
    assert process.popen.wait(30) == 0


def test_the_model_leaves_memory_when_nobody_asks(world: World) -> None:
    client = ChatClient(this_installation(), idle_s=0.2)
    try:
        answering = client.answer(world.chat(sampling=Sampling(max_new_tokens=2)), 0, ["base"])
        assert answering.done.wait(120)
        assert answering.error is None
        until(lambda: client.pid is None, "it ended by itself")
        assert client.model() is None
    finally:
        client.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base_model": "/no/such/model"}, "outside the folders"),
        ({"base_model": "someone/some-model"}, "download someone/some-model"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(change: dict[str, Any], said: str, world: World) -> None:
    answering = world.answered(world.chat(**change), "base")
    assert said in str(answering.error)
    assert answering.replies["base"].ended == "failed"


def test_without_a_template_a_prompt_beyond_the_positions_is_told_before_a_load_and_a_short_one_gone_on_from(
    world: World,
) -> None:
    bare = make_model(world.base.parent / "bare", chat_template=False)
    answering = world.ask(world.chat("the " * 25_000, base_model=str(bare)), "base")
    said = set()
    while not answering.done.wait(0.002):
        said.add(answering.progress.text("en") if answering.progress else None)
    assert "has 25,000 tokens" in str(answering.error)
    assert "limit is 128" in str(answering.error)
    assert "Loading the base model" not in said
    assert world.client.model() is None
    answering = world.answered(world.chat(base_model=str(bare), sampling=Sampling(max_new_tokens=4)), "base")
    assert (answering.error, answering.is_completion) == (None, True)
    assert answering.replies["base"].text


def test_what_does_not_fit_is_said_with_the_figures_before_it_is_loaded(world: World) -> None:
    huge = shutil.copytree(world.base, world.base.parent / "huge")
    config = json.loads((huge / "config.json").read_text())
    (huge / "config.json").write_text(json.dumps({**config, "head_dim": 2**22}))
    answering = world.answered(world.chat(base_model=str(huge), sampling=LONG), "base")
    assert "does not fit this machine's memory" in str(answering.error)
    assert "are free" in str(answering.error)
