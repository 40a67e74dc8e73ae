"""Answers that are being written: shown to every session that looks, and kept in the chat's file whoever is still there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lora_backend.chats.answering import Answering
from lora_backend.chats.chat_client import ChatClient
from lora_backend.chats.chat_store import ChatStore
from lora_backend.chats.documents import Chat, Reply
from lora_backend.errors import ChatError, FlightdeckError
from lora_backend.i18n import N_, Message
from lora_backend.os_errors import in_words

logger = logging.getLogger(__name__)
KEEP_EVERY_S = 2.0
"""How much of an answer a dashboard that is killed can lose."""


@dataclass(frozen=True)
class UnderWay:
    """A turn whose columns are being answered, or of which one answer is compared with the base model's."""

    turn: int
    """Counts from 0."""
    prompt: str
    labels: tuple[str, ...]
    answering: Answering
    is_comparison: bool = False


class KeptAnswers:
    """One for a dashboard; its methods may be called from any thread. A chat has one question under way at a time."""

    def __init__(self, client: ChatClient, store: ChatStore) -> None:
        self.client, self.store = client, store
        self._lock = threading.RLock()
        self._under_way: dict[str, UnderWay] = {}
        self._failures: dict[str, Message] = {}

    def ask(self, chat: Chat, turn: int, labels: Sequence[str] | None = None) -> None:
        """Keep `chat`, and have its `turn` answered by the columns of `labels` (None: all); earlier answers of theirs go.

        Raises `ChatError` while another question of the chat is under way, or for what cannot be asked at all; `OSError`
        where the chat cannot be written.
        """
        asked = tuple(labels or (column.label for column in chat.columns))
        with self._lock:
            self._refuse_two(chat.id)
            chat = _with_replies(chat, turn, {}, without=asked)
            answering = self.client.answer(chat, turn, asked)
            try:
                self.store.write(chat)
            except (ChatError, OSError):
                answering.stop()
                raise
            self._begin(chat, UnderWay(turn, chat.turns[turn].prompt, asked, answering))

    def compare(self, chat: Chat, turn: int, label: str) -> None:
        """Have it measured how far base model and adapter disagree on each token of an answer. Raises as `ask` does."""
        with self._lock:
            self._refuse_two(chat.id)
            answering = self.client.disagreement(chat, turn, label)
            self._begin(chat, UnderWay(turn, chat.turns[turn].prompt, (label,), answering, is_comparison=True))

    def under_way(self, chat_id: str) -> UnderWay | None:
        """What is being answered of a chat."""
        return self._under_way.get(chat_id)

    def failure(self, chat_id: str) -> Message | None:
        """What went wrong with the chat's last question, where no answer of it says so."""
        return self._failures.get(chat_id)

    def stop(self, chat_id: str) -> None:
        """End what is being written between two tokens; what is there stays."""
        if under := self.under_way(chat_id):
            under.answering.stop()

    def change(self, chat_id: str, how: Callable[[Chat], Chat]) -> Chat:
        """Read a chat, change it, write it. Raises `FlightdeckError` where it is not there, `OSError` where it cannot be written."""
        with self._lock:
            chat = how(self.store.read(chat_id))
            self.store.write(chat)
        return chat

    def look(self, chat_id: str) -> tuple[Chat, UnderWay | None]:
        """A chat with as much of its answers as is written, and what was being answered of it before it was read: where that
        is None, everything stands in the chat. Raises `FlightdeckError` where it is not there."""
        under = self.under_way(chat_id)  # first: an answer is in the file before it is no longer under way
        return self.as_it_is_now(self.store.read(chat_id)), under

    def as_it_is_now(self, chat: Chat) -> Chat:
        """`chat` with as much of its answers as is written."""
        under = self.under_way(chat.id)
        return chat if under is None else _merged(chat, under)

    def _refuse_two(self, chat_id: str) -> None:
        if chat_id in self._under_way:
            raise ChatError(N_("This chat is still being answered. Stop that answer first."))

    def _begin(self, chat: Chat, under: UnderWay) -> None:
        self._failures.pop(chat.id, None)
        self._under_way[chat.id] = under
        threading.Thread(target=self._keep, args=(chat.id, under), daemon=True).start()

    def _keep(self, chat_id: str, under: UnderWay) -> None:
        """Write what there is every now and then, and once more when it is over."""
        known = under.answering.replies
        while not under.answering.done.wait(KEEP_EVERY_S):
            if (now := under.answering.replies) is not known:
                known = now
                self._write(chat_id, under)
        self._write(chat_id, under)
        with self._lock:
            if under.answering.error is not None and under.is_comparison:
                self._failures[chat_id] = under.answering.error.message
            del self._under_way[chat_id]  # last: who sees it gone looks for nothing more

    def _write(self, chat_id: str, under: UnderWay) -> None:
        try:
            self.change(chat_id, lambda chat: _merged(chat, under))
        except (FlightdeckError, OSError) as error:
            logger.warning("an answer could not be kept", exc_info=True)
            told = in_words(error, self.store.folder.parent) if isinstance(error, OSError) else error
            if isinstance(told, FlightdeckError):
                self._failures[chat_id] = told.message


def _merged(chat: Chat, under: UnderWay) -> Chat:
    is_there = under.turn < len(chat.turns) and chat.turns[under.turn].prompt == under.prompt
    if not is_there:  # edited or deleted meanwhile
        return chat
    if under.answering.is_completion is not None:
        chat = chat.but(is_completion=under.answering.is_completion)
    return _with_replies(chat, under.turn, under.answering.replies)


def _with_replies(chat: Chat, turn: int, replies: Mapping[str, Reply], without: Sequence[str] = ()) -> Chat:
    asked = chat.turns[turn]
    kept = {label: reply for label, reply in asked.replies.items() if label not in without}
    turns = [*chat.turns]
    turns[turn] = asked.but(replies={**kept, **replies})
    return chat.but(turns=turns)
