"""The mark that ends an answer: whether there is one, and whether the model stops at it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message
from lora_backend.models.describe import read_json_object
from lora_backend.tokens.chat_spans import ChatWriter
from lora_backend.tokens.chat_template import PROBE, RowError

logger = logging.getLogger(__name__)

Trouble = Literal["no_end_of_turn", "end_is_no_token", "end_is_not_eos", "no_end_of_text"]


@dataclass(frozen=True, slots=True)
class EndOfTurn:
    """How a tokenizer ends what a model writes."""

    mark: str | None
    """What stands behind an answer."""
    token: int | None
    """The token that generation has to stop at; None where there is none."""
    stops: tuple[int, ...]
    """Tokens that generation should stop at: the model's own, and `token`."""
    trouble: Trouble | None = None
    eos: str | None = None

    @property
    def message(self) -> Message | None:
        """What is wrong, where something is."""
        if self.trouble is None:
            return None
        return Message(_MESSAGES[self.trouble], {"mark": self.mark, "eos": self.eos})

    @property
    def remedy(self) -> Message | None:
        """What to do about it."""
        return None if self.trouble is None else Message(_REMEDIES[self.trouble], {"mark": self.mark, "eos": self.eos})


_MESSAGES: dict[Trouble, str] = {
    "no_end_of_turn": N_("The model's chat template writes no mark behind an answer, so the model does not learn where to stop."),
    "end_is_no_token": N_("The model's chat template ends an answer with `{mark}`, which is not one token of its tokenizer, so no answer stops there."),
    "end_is_not_eos": N_("The model's chat template ends an answer with `{mark}`, but the model stops at `{eos}`."),
    "no_end_of_text": N_("The model's tokenizer has no end-of-text token, so the model does not learn where to stop."),
}  # fmt: skip
_REMEDIES: dict[Trouble, str] = {
    "no_end_of_turn": N_("Write `{{{{ eos_token }}}}` behind each answer in the model's chat_template.jinja, or train on `prompt` and `completion`."),
    "end_is_no_token": N_("Write `{{{{ eos_token }}}}` behind each answer in the model's chat_template.jinja, or add `{mark}` to the tokenizer as a token that the model knows."),
    "end_is_not_eos": N_("Nothing to change here: `{mark}` goes into generation_config.json beside the adapter, and answers after training stop at it. Elsewhere pass that file to `generate`."),
    "no_end_of_text": N_("Set `eos_token` in the model's tokenizer_config.json."),
}  # fmt: skip


def end_of_turn(
    tokenizer: PreTrainedTokenizerBase, model_stops: Collection[int] = (), *, in_chats: bool = True
) -> EndOfTurn:
    """The end of an answer in a chat (`in_chats`), or of a completion.

    `model_stops`: tokens that the model's own generation stops at (`stops_of`); none: the tokenizer's end of text.
    """
    eos = tokenizer.eos_token_id
    known = tuple(dict.fromkeys(model_stops)) or (() if eos is None else (int(eos),))
    shown = tokenizer.decode([known[0]]) if known else None
    if not in_chats or not tokenizer.chat_template:
        trouble: Trouble | None = "no_end_of_text" if eos is None else None
        stops = known if eos is None or eos in known else (*known, int(eos))
        return EndOfTurn(tokenizer.eos_token, eos, stops, trouble, shown)
    tail = _tail(tokenizer)
    if tail is None:  # nothing is known of a template that refuses a question with an answer
        return EndOfTurn(None, None, known, None, shown)
    known_words = set(tokenizer.added_tokens_decoder) - {tokenizer.unk_token_id}
    marks = [int(token) for token in tokenizer(tail, add_special_tokens=False)["input_ids"] if token in known_words]
    stopping = next((token for token in marks if token in known), None)
    if stopping is not None:
        return EndOfTurn(tokenizer.decode([stopping]), stopping, known, None, shown)
    if marks:
        return EndOfTurn(tokenizer.decode([marks[0]]), marks[0], (*known, marks[0]), "end_is_not_eos", shown)
    if tail.strip():
        return EndOfTurn(tail.strip(), None, known, "end_is_no_token", shown)
    return EndOfTurn(None, None, known, "no_end_of_turn", shown)


def _tail(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What is learned behind the words of an answer."""
    answer = str(PROBE.messages[-1]["content"])
    try:
        written = ChatWriter(tokenizer).write(PROBE)
    except RowError:
        return None
    if not written.answers:
        return None
    text = written.text[written.answers[0].begin : written.answers[-1].end]
    return text.rpartition(answer)[2] if answer in text else None


def stops_of(folder: Path) -> tuple[int, ...]:
    """Tokens that a model's generation stops at, by generation_config.json, else by config.json; none where neither says."""
    for name in ("generation_config.json", "config.json"):
        try:
            found: Any = read_json_object(folder / name)
        except ModelError:
            continue
        given = found.get("eos_token_id")
        stops = tuple(token for token in (given if isinstance(given, list) else [given]) if isinstance(token, int))
        if stops:
            return stops
    return ()


def settle_stops(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, in_chats: bool) -> EndOfTurn | None:
    """Let what `model` generates stop at the mark that is learned; None where it does so by itself, or there is none.

    `in_chats`: whether the rows are chats, or texts.
    """
    given = model.generation_config.eos_token_id
    known = [token for token in (given if isinstance(given, list) else [given]) if token is not None]
    end = end_of_turn(tokenizer, known, in_chats=in_chats)
    if end.message is not None and end.remedy is not None:
        logger.warning("%s %s", end.message, end.remedy)
    if end.token is None or end.token in known:
        return None
    model.generation_config.eos_token_id = list(end.stops)
    return end


def save_stops(end: EndOfTurn, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write generation_config.json beside an adapter whose base model would not stop at the mark by itself.

    `GenerationConfig.from_pretrained(folder)` reads it, for `generate(generation_config=…)`.
    """
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=list(end.stops), pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(folder)
