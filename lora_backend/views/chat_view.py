"""What there is to say of a chat: how each answer went, where adapter and base disagree, and the whole of it as a file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from lora_backend.chats.documents import Chat, Reply, Sampling, TokenKl, Turn
from lora_backend.escaping import visible, visible_lines
from lora_backend.formats import number, two_digits, when
from lora_backend.i18n import N_, Message, Plural
from lora_backend.runs.record.job_documents import Column

TITLE_LETTERS = 60
ENDED = {
    "end": None,  # as it should; nothing to say
    "length": N_("cut off at the length limit"),
    "stop": N_("stop text reached"),
    "cancelled": N_("stopped"),
    "failed": N_("failed"),
}
CUT_OFF = N_("The answer was cut off because the chat process ended. Select Retry to ask again.")
KL_BOUNDS = (0.02, 0.1, 0.5, 2.0)
"""Nats at which the next of five levels of disagreement begins."""


def title_of(prompt: str) -> str:
    """What a list calls a chat that began with `prompt`."""
    line = " ".join(prompt.split())
    return line if len(line) <= TITLE_LETTERS else line[: TITLE_LETTERS - 1].rstrip() + "…"


def base_name(chat: Chat) -> str:
    """The base model's own name: the last part of its path or id."""
    return Path(chat.base_model).name or chat.base_model


def column_message(column: Column, chat: Chat) -> Message:
    """Who answers, as the head of a column."""
    if column.adapter is None:
        return Message(N_("Base model {name}"), {"name": base_name(chat)})
    return Message(N_("Adapter {name}"), {"name": column.label})


def is_cut_off(reply: Reply) -> bool:
    """Whether an answer that nobody writes any more has no end: its process died before it could say how."""
    return reply.ended is None


def reply_facts(reply: Reply) -> list[Message]:
    """How an answer went: tokens, speed, time to the first token, and its end where that is not an ordinary one."""
    parts = []
    if reply.num_tokens:
        parts.append(Message(Plural("{count} token", "{count} tokens"), {"count": f"{reply.num_tokens:,}"}))
    if reply.num_tokens > 1 and reply.seconds:
        parts.append(Message(N_("{speed} tokens/s"), {"speed": two_digits(reply.num_tokens / reply.seconds)}))
    if reply.first_token_s is not None:
        parts.append(Message(N_("first token after {time} s"), {"time": two_digits(reply.first_token_s)}))
    said = ENDED.get(reply.ended or "end")
    if said is not None:
        parts.append(Message(said))
    return parts


def settings_facts(sampling: Sampling) -> list[Message]:
    """The settings in short, for the head of their box."""
    return [
        Message(N_("temperature {value}"), {"value": number(sampling.temperature)}),
        Message(Plural("up to {count} token", "up to {count} tokens"), {"count": f"{sampling.max_new_tokens:,}"}),
    ]


def chat_facts(chat: Chat) -> list[Message]:
    """A chat in one line of a list: when it began, its model, how many columns and turns it has."""
    return [
        Message("{time}", {"time": when(chat.created_at)}),
        Message("{name}", {"name": base_name(chat)}),
        Message(Plural("{count} model", "{count} models"), {"count": len(chat.columns)}),
        Message(Plural("{count} turn", "{count} turns"), {"count": len(chat.turns)}),
    ]


def idle_message(idle_s: float) -> Message:
    """When a loaded model goes by itself."""
    return Message(N_("unloads after {minutes} min without a question"), {"minutes": f"{idle_s / 60:g}"})


def kl_level(kl: float) -> int:
    """0 (the same) to 4 (the base model would hardly have said it), by `KL_BOUNDS`."""
    return sum(kl >= bound for bound in KL_BOUNDS)


def most_different(tokens: Sequence[TokenKl], count: int = 5) -> list[TokenKl]:
    """The tokens on which adapter and base disagree most, the most first; those on which they agree are left out."""
    differing = [token for token in tokens if kl_level(token.kl) > 0]
    return sorted(differing, key=lambda token: -token.kl)[:count]


def chat_json(chat: Chat) -> str:
    """The chat as its file holds it."""
    return json.dumps(chat.to_json(), indent=2, ensure_ascii=False) + "\n"


def chat_markdown(chat: Chat, language: str | None = None) -> str:
    """The chat as Markdown. What was asked and answered stands in fences, so none of it is markup."""
    heads = {column.label: column_message(column, chat).text(language) for column in chat.columns}
    parts = [f"# {_one_line(chat.title or chat.id)}", f"`{visible(chat.base_model)}` · {when(chat.created_at)}"]
    if chat.system:
        parts += [f"## {Message(N_('System prompt')).text(language)}", _fenced(chat.system)]
    parts += [
        f"## {Message(N_('Settings')).text(language)}",
        _fenced(json.dumps(chat.sampling.to_json(), ensure_ascii=False), "json"),
    ]
    for number_, turn in enumerate(chat.turns, start=1):
        parts += [f"## {number_}", _fenced(turn.prompt)]
        for label, head in heads.items():
            parts += _reply_markdown(head, turn.replies.get(label), language)
    return "\n\n".join(parts) + "\n"


def _reply_markdown(head: str, reply: Reply | None, language: str | None) -> list[str]:
    if reply is None:
        return []
    facts = " · ".join(message.text(language) for message in reply_facts(reply))
    return [f"### {_one_line(head)}", _fenced(reply.text), *([facts] if facts else [])]


def _one_line(text: str) -> str:
    """A heading that is text: nothing in it is markup."""
    return re.sub(r"([\\`*_\[\]<>|~$&#!])", r"\\\1", visible(text))


def _fenced(text: str, kind: str = "") -> str:
    """A code block around `text`, whatever fences it has itself."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{visible_lines(text)}\n{fence}"


def without_later_turns(chat: Chat, turn: int, prompt: str | None = None) -> Chat:
    """The chat up to `turn`, which counts from 0 and is not answered yet; with another prompt where one is given."""
    asked = Turn(prompt=chat.turns[turn].prompt if prompt is None else prompt, replies={})
    return chat.but(turns=[*chat.turns[:turn], asked])
