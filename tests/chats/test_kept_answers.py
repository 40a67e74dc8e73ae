"""Answers under way: seen by everybody who looks, and kept whatever happens to who asked, or to the process that answers.

That process is a small one here, which speaks as the real one does and needs no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_backend.chats.chat_client import ChatClient
from lora_backend.chats.chat_store import ChatStore
from lora_backend.chats.documents import Chat, Reply, Turn
from lora_backend.chats.kept_answers import KeptAnswers, UnderWay
from lora_backend.errors import ChatError
from lora_backend.installation import this_installation
from lora_backend.runs.record.job_documents import Column
from tests.waiting import until

PROCESS = """
import json, os, sys
def tell(**said): print(json.dumps(said), flush=True)
lines = iter(sys.stdin)
next(lines)
for line in lines:
    asked = json.loads(line)
    if "stop" in asked: continue
    number, labels = asked["id"], asked["params"]["labels"]
    prompt = asked["params"]["chat"]["turns"][asked["params"]["turn"]]["prompt"]
    if asked["method"] == "disagreement":
        if prompt == "fail": tell(id=number, error={"template": "no", "values": {}}); continue
        reply = asked["params"]["chat"]["turns"][0]["replies"][labels[0]] | {"tokens": [{"text": "yes", "kl": 1.5}]}
        tell(id=number, reply={"label": labels[0], "reply": reply}); tell(id=number, result=None); continue
    tell(id=number, is_completion=prompt == "complete")
    for label in labels: tell(id=number, piece={"label": label, "text": "half"})
    if prompt == "die": os._exit(1)
    ended = "end"
    if prompt == "wait":
        next(lines)
        ended = "cancelled"
    for label in labels: tell(id=number, reply={"label": label, "reply": {"text": "half an answer", "ended": ended, "num_tokens": 3}})
    tell(id=number, result=None)
"""


@pytest.fixture
def kept(workspace: Path) -> Iterator[KeptAnswers]:
    installation = this_installation()
    client = ChatClient(installation, argv=[sys.executable, "-c", PROCESS])
    yield KeptAnswers(client, ChatStore(installation.chats, installation.clock))
    client.close()


def chat(*prompts: str) -> Chat:
    columns = [Column(label="base", adapter=None), Column(label="tuned", adapter="/a")]
    return Chat(id="c1", base_model="m", columns=columns, turns=[Turn(prompt=prompt, replies={}) for prompt in prompts])


def over(kept: KeptAnswers) -> Chat:
    until(lambda: kept.under_way("c1") is None, "the answer's end")
    return kept.store.read("c1")


def replies(found: Chat, turn: int = 0) -> dict[str, tuple[str, str | None]]:
    return {label: (reply.text, reply.ended) for label, reply in found.turns[turn].replies.items()}


def written(kept: KeptAnswers, asked: Chat) -> dict[str, tuple[str, str | None]]:
    """What everybody sees of the first turn, once a part of each answer is there."""
    until(
        lambda: len(found := replies(kept.as_it_is_now(asked))) == 2 and all(text for text, _ in found.values()),
        "a part of each answer",
    )
    return replies(kept.as_it_is_now(asked))


def test_an_answer_is_kept_though_nobody_looks(kept: KeptAnswers) -> None:
    kept.ask(chat("hello"), 0)
    assert replies(over(kept)) == {"base": ("half an answer", "end"), "tuned": ("half an answer", "end")}


def test_everybody_sees_as_much_as_is_written_and_a_stop_keeps_it(kept: KeptAnswers) -> None:
    kept.ask(chat("wait"), 0)
    assert written(kept, kept.store.read("c1")) == {"base": ("half", None), "tuned": ("half", None)}
    kept.stop("c1")
    assert replies(over(kept)) == {"base": ("half an answer", "cancelled"), "tuned": ("half an answer", "cancelled")}


def test_what_was_written_stays_when_the_process_dies_and_it_can_be_asked_again(kept: KeptAnswers) -> None:
    kept.ask(chat("die"), 0)
    found = over(kept)
    assert replies(found) == {"base": ("half", "failed"), "tuned": ("half", "failed")}
    error = found.turns[0].replies["base"].error
    assert error is not None
    assert "ended in the middle" in error.text("en")
    kept.ask(found.but(turns=[Turn(prompt="hello", replies=found.turns[0].replies)]), 0)
    assert replies(over(kept))["base"] == ("half an answer", "end")


def test_one_column_is_asked_again_and_the_other_keeps_its_answer(kept: KeptAnswers) -> None:
    asked = chat("hello")
    asked = asked.but(turns=[Turn(prompt="hello", replies={"base": Reply(text="mine", ended="end")})])
    kept.ask(asked, 0, ["tuned"])
    assert replies(over(kept)) == {"base": ("mine", "end"), "tuned": ("half an answer", "end")}


def test_a_chat_has_one_question_under_way(kept: KeptAnswers) -> None:
    kept.ask(chat("wait"), 0)
    with pytest.raises(ChatError, match="still being answered"):
        kept.ask(chat("wait"), 0)
    with pytest.raises(ChatError, match="still being answered"):
        kept.compare(kept.store.read("c1"), 0, "tuned")
    kept.stop("c1")
    over(kept)


def test_an_answer_to_a_prompt_that_was_edited_away_is_not_kept(kept: KeptAnswers) -> None:
    kept.ask(chat("wait"), 0)
    written(kept, kept.store.read("c1"))
    kept.change("c1", lambda now: now.but(turns=[Turn(prompt="another", replies={})]))
    kept.stop("c1")
    assert replies(over(kept)) == {}


def test_what_cannot_be_asked_leaves_no_chat_behind(kept: KeptAnswers) -> None:
    with pytest.raises(ChatError, match="100,000"):
        kept.ask(chat("x" * 100_001), 0)
    assert kept.store.list() == []
    assert kept.under_way("c1") is None


def test_a_model_without_a_template_makes_it_a_completion(kept: KeptAnswers) -> None:
    kept.ask(chat("complete"), 0)
    assert over(kept).is_completion


def test_a_comparison_is_kept_with_the_answer_and_its_failure_is_said(kept: KeptAnswers) -> None:
    kept.ask(chat("hello"), 0)
    kept.compare(over(kept), 0, "tuned")
    (token,) = over(kept).turns[0].replies["tuned"].tokens or []
    assert (token.text, token.kl) == ("yes", 1.5)
    assert kept.failure("c1") is None
    failing = kept.store.read("c1").turns[0].but(prompt="fail")
    kept.compare(kept.change("c1", lambda now: now.but(turns=[failing])), 0, "tuned")
    assert replies(over(kept))["tuned"] == ("half an answer", "end")
    failure = kept.failure("c1")
    assert failure is not None
    assert failure.text("en") == "no"


def test_why_a_comparison_failed_is_said_before_it_is_no_longer_under_way(
    kept: KeptAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    class Watched(dict[str, UnderWay]):
        def __delitem__(self, key: str) -> None:
            seen.append(kept.failure(key) is not None)
            super().__delitem__(key)

    monkeypatch.setattr(kept, "_under_way", Watched())
    kept.ask(chat("hello"), 0)
    failing = over(kept).turns[0].but(prompt="fail")
    kept.compare(kept.change("c1", lambda now: now.but(turns=[failing])), 0, "tuned")
    over(kept)
    assert seen == [False, True]


def test_an_answer_that_cannot_be_kept_says_so(kept: KeptAnswers) -> None:
    kept.ask(chat("wait"), 0)
    written(kept, chat("wait"))
    kept.store.delete("c1")
    kept.stop("c1")
    until(lambda: kept.under_way("c1") is None)
    failure = kept.failure("c1")
    assert failure is not None
    assert "Chat c1 does not exist" in failure.text("en")


def test_an_answer_that_ends_while_its_chat_is_being_read_was_under_way(
    kept: KeptAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.ask(chat("wait"), 0)
    written(kept, chat("wait"))
    read = kept.store.read

    def read_slowly(chat_id: str) -> Chat:
        before = read(chat_id)
        monkeypatch.setattr(kept.store, "read", read)
        kept.stop("c1")
        over(kept)
        return before

    monkeypatch.setattr(kept.store, "read", read_slowly)
    found, under = kept.look("c1")
    assert not replies(found) or replies(found)["base"][1] is None
    assert under is not None, "so that it is looked at again"
    found, under = kept.look("c1")
    assert under is None
    assert replies(found)["base"] == ("half an answer", "cancelled")
