"""What is said of a chat: how answers went, where models disagree, and the chat as a file."""

from __future__ import annotations

import json

import pytest

from lora_backend.chats.documents import Chat, Reply, Sampling, TokenKl, Turn
from lora_backend.runs.record.job_documents import Column
from lora_backend.views.chat_view import (
    chat_facts,
    chat_json,
    chat_markdown,
    column_message,
    is_cut_off,
    kl_level,
    most_different,
    reply_facts,
    title_of,
    without_later_turns,
)

CHAT = Chat(
    id="c1",
    title="who built the bridge",
    created_at=1.7e9,
    base_model="/models/tiny",
    columns=[Column(label="base", adapter=None), Column(label="tuned", adapter="/a")],
    system="be short",
    sampling=Sampling(temperature=0.5, stop=["\n"]),
    turns=[
        Turn(
            prompt="who built the bridge",
            replies={
                "base": Reply(text="nobody", ended="length", num_tokens=1),
                "tuned": Reply(text="anna", ended="end", num_tokens=4, seconds=2.0, first_token_s=0.25),
            },
        ),
        Turn(prompt="why", replies={"base": Reply(text="hm", ended="cancelled", num_tokens=3, seconds=1.0)}),
    ],
)


def said(reply: Reply) -> str:
    return " · ".join(message.text("en") for message in reply_facts(reply))


def test_an_answer_says_its_tokens_speed_first_token_and_an_end_that_is_not_its_own() -> None:
    first, second = CHAT.turns
    assert said(first.replies["tuned"]) == "4 tokens · 2 tokens/s · first token after 0.25 s"
    assert said(first.replies["base"]) == "1 token · cut off at the length limit"
    assert said(second.replies["base"]) == "3 tokens · 3 tokens/s · stopped"
    assert said(Reply(ended="failed")) == "failed"


def test_an_answer_without_an_end_was_cut_off() -> None:
    assert is_cut_off(Reply(text="half", num_tokens=1))
    assert not is_cut_off(Reply(text="whole", ended="end"))


def test_columns_are_named_by_base_model_and_adapter() -> None:
    assert [column_message(column, CHAT).text("en") for column in CHAT.columns] == ["Base model tiny", "Adapter tuned"]


def test_a_title_is_one_line_of_at_most_sixty_letters() -> None:
    assert title_of("a\n b") == "a b"
    assert len(title_of("word " * 100)) == 60


def test_a_chat_in_a_list_says_its_model_columns_and_turns() -> None:
    assert [message.text("en") for message in chat_facts(CHAT)][1:] == ["tiny", "2 models", "2 turns"]


@pytest.mark.parametrize(("kl", "level"), [(0.0, 0), (0.0199, 0), (0.02, 1), (0.1, 2), (0.5, 3), (2.0, 4), (40.0, 4)])
def test_disagreement_has_five_levels(kl: float, level: int) -> None:
    assert kl_level(kl) == level


def test_the_tokens_that_differ_most_come_first_and_equal_ones_not_at_all() -> None:
    tokens = [TokenKl(text=text, kl=kl) for text, kl in (("a", 0.0), ("b", 3.0), ("c", 0.3), ("d", 0.01))]
    assert [token.text for token in most_different(tokens)] == ["b", "c"]


def test_a_chat_as_json_is_read_as_the_same_chat() -> None:
    assert Chat.read(json.loads(chat_json(CHAT))) == CHAT


def test_nothing_in_a_chat_as_markdown_is_markup() -> None:
    prompt = "```\n# head\n<img src=x> ![i](x)"
    hostile = CHAT.but(title="<b>[a](x)</b>", turns=[Turn(prompt=prompt, replies={"base": Reply(text="````\x1b[31m")})])
    text = chat_markdown(hostile, "en")
    assert text.startswith("# \\<b\\>\\[a\\](x)\\</b\\>")
    assert f"````\n{prompt}\n````" in text
    assert "`````\n````\\x1b[31m\n`````" in text


def test_a_chat_as_markdown_has_prompts_answers_and_settings_in_the_readers_language() -> None:
    text = chat_markdown(CHAT, "en")
    for part in (
        "who built the bridge",
        "### Adapter tuned",
        "anna",
        "## System prompt",
        "be short",
        '"temperature": 0.5',
    ):
        assert part in text
    assert "### Adapter tuned" not in chat_markdown(CHAT, "zh")


def test_an_edited_turn_drops_its_answers_and_what_came_after() -> None:
    assert without_later_turns(CHAT, 0, "who").turns == [Turn(prompt="who", replies={})]
    assert [turn.prompt for turn in without_later_turns(CHAT, 1).turns] == ["who built the bridge", "why"]
