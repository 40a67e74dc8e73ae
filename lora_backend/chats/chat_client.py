"""Ask the process that answers chats: one model at a time, shared by all who ask.

The process is started at the first question. It ends by itself when nobody has asked for a while, when a run wants its
GPU, and with whoever started it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lora_backend.chats.answering import Answering, empty_replies
from lora_backend.chats.asked import refuse_chat
from lora_backend.chats.documents import Chat, Reply
from lora_backend.errors import ChatError
from lora_backend.i18n import N_, Message, Plural
from lora_backend.installation import Installation
from lora_backend.json_pipes import PipedProcess

__all__ = ["IDLE_S", "Answering", "ChatClient", "LoadedModel"]
IDLE_S = 600.0
"""After so long without a question the model leaves memory."""
DIED = N_("The chat process ended in the middle of this answer. Ask again to restart it.")
UNLOADED = N_("The model was unloaded before this answer was finished. Ask again to load it.")
Method = Literal["answer", "disagreement"]


@dataclass(frozen=True)
class LoadedModel:
    """The base model that is in memory, with whatever adapters were asked for."""

    base_model: str
    """As it was asked for."""
    device: str
    """`cpu`, or the GPU's UUID."""
    device_name: Message
    """For people."""
    num_bytes: int
    """Of its weights and its adapters, in memory."""
    idle_s: float
    """Since the last answer; 0 while one is written."""
    ends_after_s: float = IDLE_S
    """How long it may be idle before it leaves memory."""


@dataclass(eq=False)
class _Question:
    id: int
    method: Method
    params: dict[str, Any]
    answering: Answering
    is_heard: bool = False
    """Whether the process has said anything of it."""


class ChatClient:
    """The process that answers chats, for all sessions of a dashboard. Its methods may be called from any thread."""

    def __init__(
        self, installation: Installation, *, argv: Sequence[str] | None = None, idle_s: float = IDLE_S
    ) -> None:
        self._installation = installation
        self._argv = list(argv or [sys.executable, "-m", "lora_backend.chatting"])
        self._idle_s = idle_s
        self._lock = threading.RLock()
        self._process: PipedProcess | None = None
        self._leaving: Message | None = None
        self._current: _Question | None = None
        self._waiting: list[_Question] = []
        self._last_id = 0
        self._loaded: dict[str, Any] | None = None
        self._base_model: str | None = None
        """That the process was asked for."""
        self._idle_since = time.monotonic()

    def answer(self, chat: Chat, turn: int, labels: Sequence[str]) -> Answering:
        """Let the columns `labels` answer `chat.turns[turn]`, side by side; what is not loaded is loaded first.

        Raises `ChatError` for what cannot be asked at all; all that comes up later is said in what is returned.
        """
        refuse_chat(chat, turn, labels)
        return self._ask("answer", chat, turn, list(labels), empty_replies(labels))

    def disagreement(self, chat: Chat, turn: int, label: str) -> Answering:
        """Fill `tokens` of the reply that `chat.turns[turn]` has of the column `label`, one pass of each model.

        Raises `ChatError` where that column has no adapter, or has not answered.
        """
        refuse_chat(chat, turn, [label])
        reply = chat.turns[turn].replies.get(label)
        column = next(column for column in chat.columns if column.label == label)
        if column.adapter is None:
            raise ChatError(N_("{label} is the base model itself, so there is nothing to compare. Choose an adapter."), label=label)  # fmt: skip
        if reply is None or not reply.text:
            raise ChatError(N_("{label} has not answered this prompt. Let it answer first."), label=label)
        return self._ask("disagreement", chat, turn, [label], {label: reply})

    def model(self) -> LoadedModel | None:
        """What is in memory now."""
        with self._lock:
            if self._loaded is None or self._process is None or not self._process.is_alive:
                return None
            idle_s = 0.0 if self._current else time.monotonic() - self._idle_since
            return LoadedModel(**self._loaded, idle_s=idle_s, ends_after_s=self._idle_s)

    @property
    def pid(self) -> int | None:
        """Of the process; None where there is none."""
        with self._lock:
            return self._process.popen.pid if self._process and self._process.is_alive else None

    def unload(self) -> None:
        """Free the memory: end the process, and what it is at; questions that wait start another."""
        with self._lock:
            self._end_process(Message(UNLOADED))
            self._hand_out()

    def close(self) -> None:
        """End the process, and all that was asked."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            for question in waiting:
                question.answering.end("failed", Message(UNLOADED))
            self._end_process(Message(UNLOADED))

    def _ask(self, method: Method, chat: Chat, turn: int, labels: list[str], replies: dict[str, Reply]) -> Answering:
        params = {"chat": chat.to_json(), "turn": turn, "labels": labels}
        with self._lock:
            self._last_id += 1
            answering = Answering(replies, self._stop)
            self._waiting.append(_Question(self._last_id, method, params, answering))
            self._hand_out()
        return answering

    def _hand_out(self) -> None:
        """Give the process what comes next, where it is at nothing. Under the lock."""
        while self._current is None and self._waiting:
            question = self._waiting.pop(0)
            if not question.answering.done.is_set():
                self._give(question)
        for place, question in enumerate(self._waiting, 1):
            said = Plural(
                "Waiting for {count} earlier answer.",
                "Waiting for {count} earlier answers.",
            )
            question.answering.say(Message(said, {"count": place}))

    def _give(self, question: _Question) -> None:
        base_model = question.params["chat"].get("base_model")
        if self._process is not None and self._base_model != base_model:  # all of its memory is given back, before
            self._end_process(Message(UNLOADED))
        if self._process is None or not self._process.is_alive:
            self._start()
        assert self._process is not None
        self._base_model = base_model
        self._current = question
        question.answering.say(Message(N_("Starting the chat process")))
        self._process.send({"id": question.id, "method": question.method, "params": question.params})

    def _start(self) -> None:
        self._loaded, self._leaving = None, None
        process = self._process = PipedProcess(self._argv)
        process.send({"installation": self._installation.to_json(), "idle_s": self._idle_s})
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _stop(self, answering: Answering) -> None:
        with self._lock:
            question = next((one for one in self._all() if one.answering is answering), None)
            if question is None:
                return
            if question is self._current and self._process is not None:
                self._process.send({"stop": question.id})
                if any(reply.text for reply in answering.replies.values()) and question.method == "answer":
                    return  # the process says how far it came
            else:
                self._waiting.remove(question)
            answering.end("cancelled")
            self._hand_out()

    def _all(self) -> list[_Question]:
        return [*([self._current] if self._current else []), *self._waiting]

    def _read(self, process: PipedProcess) -> None:
        for message in process.messages():
            with self._lock:
                if process is self._process:
                    self._hear(message)
        with self._lock:
            if process is self._process:
                self._has_ended()

    def _hear(self, message: dict[str, Any]) -> None:
        if "leaving" in message:
            self._leaving = Message.from_json(message["leaving"])
        if "loaded" in message:
            loaded = message["loaded"]
            self._loaded = {**loaded, "device_name": Message.from_json(loaded["device_name"])}
        question = self._current
        if question is None or question.id != message.get("id"):
            return
        question.is_heard, answering = True, question.answering
        if not answering.done.is_set():
            _tell(answering, message)
        if "result" in message or "error" in message:
            self._current, self._idle_since = None, time.monotonic()
            if "error" in message:
                answering.end("failed", Message.from_json(message["error"]))
            answering.end()
            self._hand_out()

    def _has_ended(self) -> None:
        """The process is gone. A question that it never heard of, for it was just leaving, is put to another."""
        question, self._current = self._current, None
        self._process, self._loaded = None, None
        if question is not None and not question.is_heard and self._leaving is not None:
            self._waiting.insert(0, question)
        elif question is not None:
            question.answering.end("failed", self._leaving or Message(DIED))
        self._hand_out()

    def _end_process(self, why: Message) -> None:
        process, question = self._process, self._current
        self._process = self._current = self._loaded = None
        if process is not None:
            process.end()
        if question is not None:
            question.answering.end("failed", why)


def _tell(answering: Answering, message: dict[str, Any]) -> None:
    """Put into `answering` what the process says of it."""
    if "is_completion" in message:
        answering.is_completion = message["is_completion"]
    if "progress" in message:
        answering.say(Message.from_json(message["progress"]["message"]), message["progress"]["fraction"])
    if "piece" in message:
        piece = dict(message["piece"])
        answering.add(piece.pop("label"), piece.pop("text"), **piece)
    if "reply" in message:
        answering.replace(message["reply"]["label"], Reply(**_read_reply(message["reply"]["reply"])))


def _read_reply(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key in Reply.model_fields}
