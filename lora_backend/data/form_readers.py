"""From the parts of a row to an example, one reader for each form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_backend.data.chat_rows import (
    RowLeftOutError,
    Said,
    TurnKeys,
    chat_of,
    listed,
    mark_of,
    refuse_without_answer,
    text_of,
)
from lora_backend.data.examples import Chat, Example, Pair, Text
from lora_backend.data.raw_rows import BadRowError
from lora_backend.i18n import N_

Values = Mapping[str, Any]
Reader = Callable[[Values, Mapping[str, str], Values, Said], Example]
"""Takes a row's values by the parts of its form, the column of each part, the row itself, and what is said of it."""


def _refuse_marked(row: Values) -> None:
    """A whole row that asks not to be learned is left out."""
    if mark_of(row) is False:
        raise RowLeftOutError


def _turns(part: str) -> Reader:
    def read(values: Values, columns: Mapping[str, str], row: Values, said: Said) -> Chat:
        _refuse_marked(row)
        key = columns[part]
        chat = chat_of(
            listed(values[part], key),
            said,
            key=key,
            keys=TurnKeys(columns["role"], columns["content"]),
            tools=values.get("tools"),
            system=values.get("system"),
        )
        return refuse_without_answer(chat, said)

    return read


def _prompt_completion(values: Values, columns: Mapping[str, str], row: Values, said: Said) -> Example:
    _refuse_marked(row)
    prompt, completion = values["prompt"], values["completion"]
    if _is_turns(prompt) and _is_turns(completion):
        return _continued(values, columns, said)
    prompt, completion = text_of(prompt, columns["prompt"]), text_of(completion, columns["completion"])
    for part in ("system", "tools"):
        if values.get(part):
            raise BadRowError(
                N_("`{part}` appears next to the texts `{prompt}` and `{completion}`, which no template writes; put it into `{prompt}`, or set `data_format: question_answer` to write the row as a chat"),
                part=columns[part],
                prompt=columns["prompt"],
                completion=columns["completion"],
            )  # fmt: skip
    _refuse_empty(completion, columns["completion"])
    return Pair(prompt, completion)


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(turn, dict) and "role" in turn for turn in value)


def _continued(values: Values, columns: Mapping[str, str], said: Said) -> Chat:
    """A chat of which only the turns of the completion are learned."""
    before, after = values["prompt"], values["completion"]
    asked = chat_of(before, said, key=columns["prompt"], system=values.get("system"), learns=False)
    answered = chat_of(after, said, key=columns["completion"])
    if asked.messages[-1]["role"] == answered.messages[0]["role"] == "assistant":
        raise BadRowError(
            N_("`{prompt}` ends and `{completion}` begins with the assistant; join the two turns"),
            prompt=columns["prompt"],
            completion=columns["completion"],
        )
    shift = len(asked.messages)
    untrained = asked.untrained | {place + shift for place in answered.untrained}
    whole = chat_of((*asked.messages, *answered.messages), Said(), tools=values.get("tools"))
    return refuse_without_answer(Chat(whole.messages, whole.tools, untrained), said)


def _alpaca(values: Values, columns: Mapping[str, str], row: Values, said: Said) -> Chat:
    """Instruction, and below it the input where there is one, as the user's turn; `history` holds pairs before it."""
    _refuse_marked(row)
    asked = text_of(values["instruction"], columns["instruction"])
    given = text_of(values.get("input") or "", columns["input"])
    turns: list[dict[str, str]] = []
    for pair in listed(values.get("history") or [], columns["history"]):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise BadRowError(N_("`{key}` must be a list of pairs of question and answer"), key=columns["history"])
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    turns += _asked_and_answered("\n".join(filter(None, (asked, given))), values["output"], columns["output"])
    return refuse_without_answer(chat_of(turns, said, system=values.get("system")), said)


def _question_answer(values: Values, columns: Mapping[str, str], row: Values, said: Said) -> Chat:
    _refuse_marked(row)
    question = text_of(values["question"], columns["question"])
    turns = _asked_and_answered(question, values["answer"], columns["answer"])
    return refuse_without_answer(chat_of(turns, said, tools=values.get("tools"), system=values.get("system")), said)


def _asked_and_answered(question: str, answer: Any, key: str) -> list[dict[str, str]]:
    text = text_of(answer, key)
    _refuse_empty(text, key)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": text}]


def _refuse_empty(text: str, key: str) -> None:
    if not text.strip():
        raise BadRowError(N_("`{key}` is empty, so there is no answer to learn"), key=key, kind="empty_answer")


def _text(values: Values, columns: Mapping[str, str], row: Values, _: Said) -> Text:
    _refuse_marked(row)
    text = text_of(values["text"], columns["text"])
    if not text.strip():
        raise BadRowError(
            N_("`{key}` is empty, so there is nothing to learn"), key=columns["text"], kind="empty_answer"
        )
    return Text(text)


READERS: dict[str, Reader] = {
    "messages": _turns("messages"),
    "sharegpt": _turns("conversations"),
    "prompt_completion": _prompt_completion,
    "alpaca": _alpaca,
    "question_answer": _question_answer,
    "text": _text,
}
