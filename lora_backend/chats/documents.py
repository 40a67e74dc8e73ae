"""A chat as it is kept: who answers, how, what was asked, and what each answered."""

from __future__ import annotations

from typing import Literal

from lora_backend.runs.record.job_documents import Column
from lora_backend.typed_json import Count, Document, Number, Part, Sentence

MOST_COLUMNS = 3
MAX_PROMPT_CHARACTERS = 100_000


class Sampling(Part):
    """How an answer is drawn; names and meaning of transformers' `GenerationConfig`."""

    temperature: Number = 0.0
    """0: always the likeliest token, whatever the next two say."""
    top_p: Number = 1.0
    top_k: Count = 0
    """0: all tokens."""
    repetition_penalty: Number = 1.0
    stop: list[str] = []
    """Texts at which an answer ends; they are not part of it."""
    max_new_tokens: Count = 256
    seed: Count = 42


class TokenKl(Part):
    """A token of an answer, and how far the model with the adapter and the base model disagree on it."""

    text: str
    kl: Number
    """KL(adapter ‖ base) of the two distributions at this place, nats."""


class Reply(Part):
    """What one column answered to one prompt."""

    text: str = ""
    ended: Literal["end", "length", "stop", "cancelled", "failed"] | None = None
    """By its end mark, at `max_new_tokens`, at a stop text, by the user, by `error`; None: it is still being written."""
    error: Sentence | None = None
    num_tokens: Count = 0
    first_token_s: Number | None = None
    """From the question to the first token of this column."""
    seconds: Number | None = None
    """Of generating, the prompt's reading with it."""
    tokens: list[TokenKl] | None = None
    """Where the disagreement was asked for."""


class Turn(Part):
    """A prompt, and what the columns answered to it, by their labels."""

    prompt: str
    replies: dict[str, Reply] = {}


class Chat(Document):
    """A file of `<workspace>/chats/`. Each column goes on from its own answers."""

    id: str
    title: str = ""
    created_at: Number | None = None
    base_model: str = ""
    """As `model_name` of a config."""
    columns: list[Column] = []
    system: str = ""
    sampling: Sampling = Sampling()
    turns: list[Turn] = []
    is_completion: bool = False
    """The model has no chat template: prompts are gone on from, not answered."""
