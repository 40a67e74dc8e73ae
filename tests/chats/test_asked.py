"""What cannot be asked is refused in one sentence, before a process is started."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.chats.asked import refuse_chat
from lora_backend.chats.documents import Chat, Sampling, Turn
from lora_backend.errors import ChatError
from lora_backend.runs.record.job_documents import Column

COLUMNS = [Column(label="base"), Column(label="adapter", adapter="/a")]


def chat(prompt: str = "when", **changes: Any) -> Chat:
    return Chat(id="c", base_model="b", columns=COLUMNS, turns=[Turn(prompt=prompt)]).but(**changes)


def test_a_good_question_passes() -> None:
    refuse_chat(chat(), 0, ["base", "adapter"])
    refuse_chat(chat("x" * 100_000), 0, ["adapter"])


@pytest.mark.parametrize(
    ("asked", "labels", "turn", "said"),
    [
        (chat(""), ["base"], 0, "The prompt is empty"),
        (chat(" \n\t"), ["base"], 0, "The prompt is empty"),
        (chat("x" * 100_001), ["base"], 0, "has 100,001 characters; the limit is 100,000"),
        (chat(system="x" * 100_001), ["base"], 0, "100,001 characters"),
        (chat(), [], 0, "No model is selected"),
        (chat(), ["other"], 0, "no column named other"),
        (chat(), ["base"], 1, "no prompt number 2"),
        (chat(), ["base"], -1, "no prompt number 0"),
        (chat(columns=[*COLUMNS, Column(label="base")]), ["base"], 0, "Two columns are named base"),
        (chat(), ["base", "adapter", "c", "d"], 0, "Up to 3 columns can answer side by side, but there are 4"),
        (chat(sampling=Sampling(stop=["a", ""])), ["base"], 0, "A stop text is empty"),
        (chat(sampling=Sampling(stop=["a"] * 17)), ["base"], 0, "up to 16 stop texts"),
        (chat(sampling=Sampling(temperature=-1)), ["base"], 0, "temperature is -1"),
        (chat(sampling=Sampling(temperature=1e-9)), ["base"], 0, "temperature is 1e-09"),
        (chat(sampling=Sampling(top_p=0)), ["base"], 0, "Top-p is 0"),
        (chat(sampling=Sampling(top_p=1.5)), ["base"], 0, "Top-p is 1.5"),
        (chat(sampling=Sampling(repetition_penalty=0)), ["base"], 0, "repetition penalty is 0"),
        (chat(sampling=Sampling(max_new_tokens=0)), ["base"], 0, "tokens, not 0"),
        (chat(sampling=Sampling(max_new_tokens=10**9)), ["base"], 0, "not 1,000,000,000"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_sentence(asked: Chat, labels: list[str], turn: int, said: str) -> None:
    with pytest.raises(ChatError, match=said) as raised:
        refuse_chat(asked, turn, labels)
    assert "\n" not in str(raised.value)
    assert raised.value.message.text("zh") != raised.value.message.text("en")
