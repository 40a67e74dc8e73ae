"""A model that answers chats: loaded at the first question, columns answered in turn, token by token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from lora_backend.chats.asked import refuse_chat
from lora_backend.chats.documents import Chat, Reply, TokenKl
from lora_backend.chatting.chat_device import ChatDevice, SharedCores, choose_device, refuse_no_room
from lora_backend.chatting.chat_prompts import is_completion, prompt_ids, refuse_beyond
from lora_backend.chatting.columns import ChatModel, OnProgress, load_columns
from lora_backend.chatting.disagreement import disagreement
from lora_backend.chatting.generation import Piece, stream_reply
from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.modeling.load import load_tokenizer
from lora_backend.modeling.out_of_memory import is_out_of_memory
from lora_backend.models.describe import describe_model
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.runs.record.job_documents import Column

SETTLE_EVERY_S = 1.0
"""How often it is asked whether a run trains on the same cores."""


@dataclass(frozen=True)
class Told:
    """What one step of an answer gave: a piece of a column's text, or its reply when that is finished."""

    label: str
    text: str
    reply: Reply
    """As far as it is."""


class ChatSession:
    """One base model at a time, in this process. `on_device` is told where it goes before torch looks at any GPU."""

    def __init__(
        self,
        installation: Installation,
        policy: PathPolicy,
        on_device: Callable[[ChatDevice], None] = lambda _: None,
        on_progress: OnProgress = lambda *_: None,
    ) -> None:
        self._installation, self._policy = installation, policy
        self._on_device, self._on_progress = on_device, on_progress
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._base_model: str | None = None
        self.device: ChatDevice | None = None
        self.model: ChatModel | None = None
        self._cores = SharedCores(installation)

    def is_completion(self, chat: Chat) -> bool:
        """Whether the chat's model has no template, so that prompts are gone on from."""
        return is_completion(self._tokenizer_of(chat.base_model))

    def answer(
        self, chat: Chat, turn: int, labels: Sequence[str], shall_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Told]:
        """Let these columns answer `chat.turns[turn]`, a token of each in turn. `shall_stop` is asked between two tokens.

        A column that fails says so in its reply, and the others go on. Raises `FlightdeckError` for what cannot be asked,
        before anything is loaded, and where nothing can be loaded.
        """
        began = time.monotonic()
        refuse_chat(chat, turn, labels)
        prompts = self._prompts(chat, turn, labels)
        model = self._loaded(chat, labels, max(map(len, prompts.values())))
        written = [
            _Written(label, began, len(prompts), self._stream(model, chat, label, prompts[label])) for label in labels
        ]
        settled = self._settle(None)
        while open_ones := [one for one in written if one.reply.ended is None]:
            for one in open_ones:
                settled = self._settle(settled)
                yield one.stop() if shall_stop() else one.step()

    def disagreement(
        self, chat: Chat, turn: int, label: str, shall_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Told]:
        """The reply that `chat.turns[turn]` has of `label`, with more and more of its `tokens`."""
        refuse_chat(chat, turn, [label])
        reply = chat.turns[turn].replies[label]
        prompt = self._prompts(chat, turn, [label])[label]
        model = self._loaded(chat, [label], len(prompt) + reply.num_tokens)
        tokens: list[TokenKl] = []
        self._settle(None)
        for part in _saying_no_memory(disagreement(model, label, prompt, reply.text)):
            tokens += part
            yield Told(label, "", reply.but(tokens=list(tokens)))
            if shall_stop():
                return

    def _stream(self, model: ChatModel, chat: Chat, label: str, prompt: Sequence[int]) -> Iterator[Piece]:
        return _saying_no_memory(
            stream_reply(
                model.model,
                prompt,
                chat.sampling,
                tokenizer=model.tokenizer,
                stops=model.stops(label),
                within=lambda: model.use(label),
                max_positions=model.max_positions,
            )
        )

    def _prompts(self, chat: Chat, turn: int, labels: Sequence[str]) -> dict[str, list[int]]:
        """Of each column, read by the tokenizer alone: a prompt that is too long is told before a model is loaded."""
        tokenizer = self._tokenizer_of(chat.base_model)
        most = describe_model(self._policy.model(chat.base_model)).max_positions
        prompts = {}
        for label in labels:
            prompts[label] = prompt_ids(tokenizer, chat, turn, label)
            refuse_beyond(len(prompts[label]), most, label)
        return prompts

    def _tokenizer_of(self, base_model: str) -> PreTrainedTokenizerBase:
        if self._tokenizer is None or self._base_model != base_model:
            self._tokenizer = load_tokenizer(str(self._policy.model(base_model)))
            self._base_model = base_model
        return self._tokenizer

    def _loaded(self, chat: Chat, labels: Sequence[str], prompt_tokens: int) -> ChatModel:
        columns = [
            column if column.adapter is None else Column(label=column.label, adapter=str(self._policy.adapter(column.adapter)))
            for column in chat.columns
            if column.label in labels
        ]  # fmt: skip
        path = str(self._policy.model(chat.base_model))
        asked = (path, columns, chat.sampling, self._installation, self._policy, prompt_tokens)
        if self.model is None or self.model.is_broken or self.model.base_model != chat.base_model:
            self.model = None  # first, for its memory is what the new one needs
            self.device = choose_device(*asked)
            self._on_device(self.device)
            self.model = load_columns(
                path, [], self.device.torch_device, self._on_progress,
                find_base=self._policy.model, name=chat.base_model,
            )  # fmt: skip
        elif self.device is not None:
            refuse_no_room(*asked, self.device, self.model.num_bytes)
        self.model.hold(columns, self._on_progress)
        return self.model

    def _settle(self, settled: float | None) -> float:
        now = time.monotonic()
        if settled is None or now - settled >= SETTLE_EVERY_S:
            self._cores.settle()
            return now
        return settled


@dataclass
class _Written:
    """A column's reply while it is written."""

    label: str
    began: float
    """When the question was heard, by the monotonic clock."""
    num_columns: int
    pieces: Iterator[Piece]
    reply: Reply = field(default_factory=Reply)
    _seconds: float = 0.0

    def step(self) -> Told:
        """The next piece, and the reply with it; where it fails, why."""
        before = time.monotonic()
        try:
            piece = next(self.pieces)
        except FlightdeckError as error:
            self.reply = self.reply.but(ended="failed", error=error.message)
            return Told(self.label, "", self.reply)
        now = time.monotonic()
        self._seconds += now - before
        changes: dict[str, Any] = {"text": self.reply.text + piece.text, "seconds": round(self._seconds, 4)}
        if piece.token is not None:
            changes["num_tokens"] = self.reply.num_tokens + 1
            if self.reply.first_token_s is None:
                changes["first_token_s"] = round(now - self.began, 4)
        if piece.ended is not None:
            changes["ended"] = piece.ended
        self.reply = self.reply.but(**changes)
        return Told(self.label, piece.text, self.reply)

    def stop(self) -> Told:
        self.reply = self.reply.but(ended="cancelled")
        return Told(self.label, "", self.reply)


def _saying_no_memory(steps: Iterator[Any]) -> Iterator[Any]:
    """`steps`; where memory does not reach, a sentence."""
    try:
        yield from steps
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            N_("There is not enough memory to continue this answer. Use fewer columns, or ask for a shorter answer.")
        ) from error
