"""`chat`: ask a base model and adapters of it, side by side, at the terminal or once."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lora_backend.chats.asked import refuse_chat
from lora_backend.chats.chat_store import ChatStore
from lora_backend.chats.documents import Chat, Reply, Sampling, TokenKl, Turn
from lora_backend.commands.subjects import adapter_of
from lora_backend.commands.words import GOOD, NO, print_json, say
from lora_backend.errors import ChatError, FlightdeckError, ModelError
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation, path_of, this_installation
from lora_backend.models.find import ADAPTER_CONFIG, HUB_ID, find_adapter, find_model
from lora_backend.preflight.path_policy import AnyPath, from_folder
from lora_backend.runs.record.job_documents import Column
from lora_backend.terminal import ask, can_ask, is_coloured, show, show_piece, show_styled

if TYPE_CHECKING:  # torch is imported once the words are understood
    from lora_backend.chatting.chat_device import ChatDevice
    from lora_backend.chatting.chat_session import ChatSession, Told

EXIT = "/exit"
DISAGREES = 0.5
"""Nats: a token on which adapter and base model differ so much is marked."""


@dataclass(frozen=True)
class Asked:
    """One of the words: a base model, or an adapter and the base model that it names."""

    label: str
    base_model: str
    adapter: Path | None = None


def chat(arguments: argparse.Namespace) -> int:
    """Run the command."""
    installation = this_installation()
    document = _chat_of(arguments, installation)
    if not arguments.prompt and (arguments.json or not can_ask()):
        raise ChatError(N_("There is nothing to ask. Add --prompt TEXT, or start `chat` in a terminal."))
    turns = [Turn(prompt=text) for text in arguments.prompt]
    for place in range(len(turns)):  # before a model is loaded
        refuse_chat(document.but(turns=turns), place, [column.label for column in document.columns])
    session = _session(arguments, installation)
    for prompt in arguments.prompt:
        document = _asked(session, document, prompt, arguments)
    if not arguments.prompt:
        document = _talk(session, document, arguments)
    if arguments.json:
        print_json(document.to_json())
    replies = [reply for turn in document.turns for reply in turn.replies.values()]
    return NO if any(reply.ended == "failed" for reply in replies) else GOOD


def _chat_of(arguments: argparse.Namespace, installation: Installation) -> Chat:
    subjects = [_asked_of(text, installation) for text in arguments.subjects]
    base = next((subject for subject in subjects if subject.adapter is None), subjects[0]).base_model
    if len(subjects) == 1 and subjects[0].adapter is not None and not arguments.alone:
        subjects.insert(0, Asked(Path(base).name, base))
    labels: list[str] = []
    for subject in subjects:
        labels.append(_unlike(subject.label, labels))
    return Chat(
        id=ChatStore(installation.chats, installation.clock).new_id(),
        created_at=installation.clock(),
        base_model=base,
        columns=[
            Column(label=label, adapter=None if subject.adapter is None else str(subject.adapter))
            for label, subject in zip(labels, subjects, strict=True)
        ],
        system=arguments.system,
        sampling=_sampling(arguments),
    )


def _sampling(arguments: argparse.Namespace) -> Sampling:
    """By the options of the same names. Raises `ChatError` for what is no such number at all."""
    try:
        return Sampling(**{name: getattr(arguments, name) for name in Sampling.model_fields})
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        value, option = getattr(arguments, name), f"--{name.replace('_', '-')}"
        raise ChatError(N_("`{option}` cannot be {value}."), option=option, value=str(value)[:40]) from error


def _asked_of(words: str, installation: Installation) -> Asked:
    """Whom a word names: a base model's folder or hub id, or an adapter as every command finds one."""
    named = from_folder(words, installation.folder)
    path = path_of(named)
    is_here = path is not None and path.exists()
    is_model = is_here and path is not None and (path / "config.json").is_file()
    if is_model and path is not None and not (path / ADAPTER_CONFIG).is_file():
        return Asked(path.name, named)
    if not is_here and HUB_ID.fullmatch(words):
        try:
            find_model(words)
        except ModelError as no_model:
            try:
                find_adapter(words)
            except ModelError:
                raise no_model from None
        else:
            return Asked(words, words)
    subject = adapter_of(words)
    if not subject.base_model:
        raise ModelError(
            N_("The adapter in {path} does not name its base model. Give the base model first, then the adapter."),
            path=str(subject.adapter),
        )
    return Asked(subject.label, subject.base_model, installation.folder / subject.adapter)


def _unlike(label: str, others: list[str]) -> str:
    number = 2
    wanted = label
    while wanted in others:
        wanted, number = f"{label} ({number})", number + 1
    return wanted


def _session(arguments: argparse.Namespace, installation: Installation) -> ChatSession:
    def leave(why: Message) -> None:
        if arguments.json:
            print_json({"error": why.text()})
            sys.stdout.flush()
        else:
            show(why, to_stderr=True)
        os._exit(NO)

    def settle(device: ChatDevice) -> None:
        os.environ.update(device.environment)  # before torch looks
        leave_when_wanted(device, installation, leave)

    show(Message(N_("Starting torch and PEFT")), to_stderr=True)
    from lora_backend.chatting.chat_device import leave_when_wanted
    from lora_backend.chatting.chat_session import ChatSession

    return ChatSession(
        installation, AnyPath(installation.folder), settle, lambda message, _: show(message, to_stderr=True)
    )


def _talk(session: ChatSession, document: Chat, arguments: argparse.Namespace) -> Chat:
    """Until the input ends or says so."""
    show(
        say(N_("Type a prompt and press Enter. {exit} ends the chat, Ctrl-C stops an answer."), exit=EXIT),
        to_stderr=True,
    )
    while True:
        line = ask(">")
        if not line or line.strip() == EXIT:
            return document
        if not line.strip():
            continue
        try:
            document = _asked(session, document, line.rstrip("\n"), arguments)
        except FlightdeckError as error:  # of this question alone
            show(error, to_stderr=True)


def _asked(session: ChatSession, document: Chat, prompt: str, arguments: argparse.Namespace) -> Chat:
    """The chat with one turn more."""
    labels = [column.label for column in document.columns]
    document = document.but(turns=[*document.turns, Turn(prompt=prompt)])
    place = len(document.turns) - 1
    if place == 0 and session.is_completion(document):
        document = document.but(is_completion=True)
        show(
            Message(N_("This model has no chat template: it continues your text instead of answering it.")),
            to_stderr=True,
        )
    replies: dict[str, Reply] = {}
    with _stopping_at_ctrl_c() as is_stopped:
        shown = _Shown(labels, is_quiet=arguments.json)
        for told in session.answer(document, place, labels, is_stopped):
            replies[told.label] = told.reply
            shown.take(told)
        turn = document.turns[-1].but(replies=replies)
        document = document.but(turns=[*document.turns[:-1], turn])
        for column in document.columns if arguments.disagreement else ():
            if column.adapter is not None and replies[column.label].text:
                for told in session.disagreement(document, place, column.label, is_stopped):
                    replies = {**replies, column.label: told.reply}
                document = document.but(turns=[*document.turns[:-1], turn.but(replies=replies)])
                if not arguments.json:
                    _show_disagreement(column.label, replies[column.label].tokens or [])
    return document


class _Shown:
    """Answers in the order of the columns, the first that is not finished as it is written."""

    def __init__(self, labels: list[str], *, is_quiet: bool) -> None:
        self._left, self._is_quiet = list(labels), is_quiet
        self._replies: dict[str, Reply] = {}
        self._shown = 0
        """Characters of the first one left."""

    def take(self, told: Told) -> None:
        """Show what is to be shown once this is known."""
        self._replies[told.label] = told.reply
        while self._left and not self._is_quiet:
            label = self._left[0]
            reply = self._replies.get(label)
            if reply is None:
                return
            if not self._shown:
                show(f"── {label}")
            show_piece(reply.text[self._shown - 1 if self._shown else 0 :])
            self._shown = len(reply.text) + 1
            if reply.ended is None:
                return
            show()
            show(_ending(reply), to_stderr=True)
            self._left.pop(0)
            self._shown = 0


def _ending(reply: Reply) -> Message:
    """How an answer ended, and how fast it was."""
    if reply.error is not None:
        return reply.error
    words = {
        "end": N_("finished"), "length": N_("length limit reached"), "stop": N_("stop text reached"), "cancelled": N_("stopped"),
    }  # fmt: skip
    seconds = reply.seconds or 0.0
    speed = f"{reply.num_tokens / seconds:.1f}" if seconds else "–"
    values: dict[str, Any] = {"how": Message(words.get(reply.ended or "", "–")), "count": reply.num_tokens}
    return Message(N_("({how}; {count} tokens, {speed} a second)"), {**values, "speed": speed})


def _show_disagreement(label: str, tokens: list[TokenKl]) -> None:
    show(say(N_("── {label}: where the adapter and the base model disagree"), label=label))
    if is_coloured():
        show_styled((token.text, ["trained"] if token.kl >= DISAGREES else []) for token in tokens)
    else:
        show("".join(f"[{token.text} {token.kl:.1f}]" if token.kl >= DISAGREES else token.text for token in tokens))


@contextmanager
def _stopping_at_ctrl_c() -> Iterator[Any]:
    """Within the block the first Ctrl-C makes the function that is given say True, the second is one as ever."""
    asked: list[int] = []

    def hear(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
