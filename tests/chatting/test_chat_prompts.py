"""What a column is asked: the chat with its own answers, by the template; without one, text to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from lora_backend.chats.documents import Chat, Reply, Turn
from lora_backend.chatting.chat_prompts import is_completion, prompt_ids, refuse_beyond
from lora_backend.errors import ChatError, FlightdeckError
from tests.tiny import save_tokenizer

CHAT = Chat(
    id="c",
    system="the tower",
    turns=[
        Turn(prompt="how tall is the tower", replies={"a": Reply(text="nine metres"), "b": Reply(text="noon")}),
        Turn(prompt="who built the bridge", replies={"a": Reply(text="anna")}),
        Turn(prompt="when does the train leave"),
    ],
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bare")
    save_tokenizer(folder, chat_template=False)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("label", ["a", "b"])
def test_each_column_goes_on_from_its_own_answers(label: str, tokenizer: Any) -> None:
    messages = [{"role": "system", "content": CHAT.system}]
    for turn in CHAT.turns[:2]:
        if label in turn.replies:
            messages += [
                {"role": "user", "content": turn.prompt},
                {"role": "assistant", "content": turn.replies[label].text},
            ]
    messages.append({"role": "user", "content": CHAT.turns[2].prompt})
    wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert prompt_ids(tokenizer, CHAT, 2, label) == list(wanted)


def test_an_earlier_turn_is_asked_without_what_came_after(tokenizer: Any) -> None:
    first = prompt_ids(tokenizer, CHAT, 0, "a")
    assert tokenizer.decode(first).split()[-1] == "<|assistant|>"
    assert "bridge" not in tokenizer.decode(first)


def test_without_a_template_the_text_is_gone_on_from(tokenizer: Any, bare: Any) -> None:
    assert (is_completion(tokenizer), is_completion(bare)) == (False, True)
    said = bare.decode(prompt_ids(bare, CHAT, 2, "a"))
    assert said == "the tower how tall is the tower nine metres who built the bridge anna when does the train leave"


def test_a_template_that_refuses_the_chat_is_one_sentence(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    refusing = AutoTokenizer.from_pretrained(tmp_path)
    refusing.chat_template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ messages[0]['content'] }}"  # fmt: skip
    with pytest.raises(FlightdeckError, match="cannot write this chat: System role not supported"):
        prompt_ids(refusing, CHAT, 0, "a")
    assert prompt_ids(refusing, CHAT.but(system=""), 0, "a")


def test_half_a_surrogate_pair_and_a_hundred_thousand_characters_are_tokens(tokenizer: Any) -> None:
    for prompt in ("the \ud83d door", "x" * 100_000, "the " * 25_000):
        assert prompt_ids(tokenizer, Chat(id="c", turns=[Turn(prompt=prompt)]), 0, "a")


def test_a_prompt_beyond_the_models_positions_is_refused_with_both_figures() -> None:
    refuse_beyond(127, 128, "a")
    refuse_beyond(10**6, None, "a")
    with pytest.raises(ChatError, match=r"of a has 25,002 tokens .* limit is 128"):
        refuse_beyond(25_002, 128, "a")
