"""An answer that is being written: what a page reads while another thread fills it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

from lora_backend.chats.documents import Reply
from lora_backend.errors import ChatError, FlightdeckError
from lora_backend.i18n import Message


class Answering:
    """One question to a model under way, read by polling. What is read is replaced as a whole, never changed."""

    def __init__(self, replies: dict[str, Reply], stop: Callable[[Answering], None]) -> None:
        self.progress: Message | None = None
        """What it waits for, or what is loaded; None once it is being answered."""
        self.fraction: float = 0.0
        self.replies = replies
        """By label, as far as each is."""
        self.is_completion: bool | None = None
        """Whether the model has no chat template, so that prompts are gone on from; None until that is known."""
        self.done = threading.Event()
        self.error: FlightdeckError | None = None
        self._stop = stop

    def stop(self) -> None:
        """End it between two tokens; replies that were not finished say `cancelled`."""
        self._stop(self)

    def say(self, progress: Message | None, fraction: float = 0.0) -> None:
        self.progress, self.fraction = progress, fraction

    def replace(self, label: str, reply: Reply) -> None:
        self.replies = {**self.replies, label: reply}

    def add(self, label: str, text: str, **fields: Any) -> None:
        """Go on with a reply by `text`."""
        before = self.replies.get(label, Reply())
        self.progress = None
        self.replace(label, before.but(text=before.text + text, **fields))

    def end(self, ended: Literal["cancelled", "failed"] | None = None, error: Message | None = None) -> None:
        """It is over: replies that have no end get `ended`, and with `error` say why."""
        if self.done.is_set():
            return
        for label, reply in self.replies.items():
            if ended is not None and reply.ended is None:
                self.replace(label, reply.but(ended=ended, **({} if error is None else {"error": error})))
        if error is not None and ended == "failed":
            self.error = ChatError(error.template, **error.values)
        self.progress = None
        self.done.set()


def empty_replies(labels: Sequence[str]) -> dict[str, Reply]:
    """None of them begun."""
    return {label: Reply() for label in labels}
