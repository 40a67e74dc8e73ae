"""What can be asked of a model at all: refused with a sentence before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lora_backend.chats.documents import MAX_PROMPT_CHARACTERS, MOST_COLUMNS, Chat, Sampling
from lora_backend.errors import ChatError
from lora_backend.i18n import N_

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 100
"""Below, logits that are divided by it are beyond what fp32 tells apart."""
MOST_STOPS = 16
MAX_STOP_CHARACTERS = 200
MOST_NEW_TOKENS = 32_768


def refuse_chat(chat: Chat, turn: int, labels: Sequence[str]) -> None:
    """Raise `ChatError` where `chat.turns[turn]` cannot be asked of the columns `labels`."""
    columns = [column.label for column in chat.columns]
    if not labels:
        raise ChatError(N_("No model is selected. Choose a base model or an adapter."))
    if len(labels) > MOST_COLUMNS:
        raise ChatError(
            N_("Up to {limit} columns can answer side by side, but there are {count}. Remove some."),
            count=len(labels),
            limit=MOST_COLUMNS,
        )
    if len(set(columns)) < len(columns):
        twice = next(one for one, other in pairwise(sorted(columns)) if one == other)
        raise ChatError(N_("Two columns are named {label}. Rename one of them."), label=twice)
    for label in labels:
        if label not in columns:
            raise ChatError(N_("This chat has no column named {label}. Add it, or ask another column."), label=label)
    if not 0 <= turn < len(chat.turns):
        raise ChatError(N_("The chat has no prompt number {number}."), number=turn + 1)
    for asked in chat.turns[: turn + 1]:
        _refuse_text(asked.prompt)
    if not chat.turns[turn].prompt.strip():
        raise ChatError(N_("The prompt is empty. Write something to ask."))
    _refuse_text(chat.system)
    refuse_sampling(chat.sampling)


def refuse_sampling(sampling: Sampling) -> None:
    """Raise `ChatError` where no answer can be drawn so."""
    if sampling.temperature != 0 and not LEAST_TEMPERATURE <= sampling.temperature <= MOST_TEMPERATURE:
        raise ChatError(
            N_("The temperature is {value}, but must be 0 or between {least} and {most}."),
            value=f"{sampling.temperature:g}",
            least=LEAST_TEMPERATURE,
            most=MOST_TEMPERATURE,
        )
    if not 0 < sampling.top_p <= 1:
        raise ChatError(N_("Top-p is {value}, but must be above 0 and at most 1."), value=f"{sampling.top_p:g}")
    if sampling.repetition_penalty <= 0:
        value = f"{sampling.repetition_penalty:g}"
        raise ChatError(N_("The repetition penalty is {value}, but must be above 0 (1 means no penalty)."), value=value)
    if not 1 <= sampling.max_new_tokens <= MOST_NEW_TOKENS:
        raise ChatError(
            N_("An answer can have 1 to {limit} tokens, not {value}."),
            limit=f"{MOST_NEW_TOKENS:,}",
            value=f"{sampling.max_new_tokens:,}",
        )
    if "" in sampling.stop:
        raise ChatError(N_("A stop text is empty, so every answer would end before it begins. Remove it."))
    if len(sampling.stop) > MOST_STOPS or any(len(text) > MAX_STOP_CHARACTERS for text in sampling.stop):
        raise ChatError(
            N_("You can set up to {count} stop texts of up to {length} characters each. Remove or shorten some."),
            count=MOST_STOPS,
            length=MAX_STOP_CHARACTERS,
        )


def _refuse_text(text: str) -> None:
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ChatError(
            N_("The prompt has {count} characters; the limit is {limit}. Shorten it."),
            count=f"{len(text):,}",
            limit=f"{MAX_PROMPT_CHARACTERS:,}",
        )
