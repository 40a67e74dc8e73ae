"""One answer, token by token, so that several can be written in turn.

It is transformers' `generate` for one prompt, taken apart: the same forward over the same cache, the same processors in
the same order. A greedy answer is that of `generate` token for token; a drawn one too, from a generator of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lora_backend.chats.documents import Sampling
from lora_backend.chatting.reply_text import StopTexts, TokenTexts
from lora_backend.errors import ModelError
from lora_backend.i18n import N_

READ_AT_ONCE = 1024
"""Tokens of a prompt in one forward: between two of them others have their turn, and memory is bounded."""
Ended = Literal["end", "length", "stop"]


@dataclass(frozen=True)
class Piece:
    """What one forward gave."""

    text: str
    """What it adds to the answer; empty while the prompt is read, or a character or a stop text may go on."""
    token: int | None
    """None while the prompt is read."""
    ended: Ended | None = None


class Forward:
    """The logits of the next token, with the cache of all tokens before it."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._device = model.get_input_embeddings().weight.device
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in parameters_of(model) else {}
        self._keeps_cache = "past_key_values" in parameters_of(model)
        self._cache: Any = None
        self._ids: list[int] = []

    @torch.inference_mode()
    def __call__(self, ids: Sequence[int]) -> torch.Tensor:
        """Go on by `ids`; gives 1 × vocabulary, in fp32. A model without such a cache reads everything anew."""
        self._ids += ids
        given = torch.tensor([list(ids) if self._keeps_cache else self._ids], device=self._device)
        cache = {"past_key_values": self._cache, "use_cache": True} if self._keeps_cache else {}
        output = self._model(input_ids=given, **cache, **self._options)
        self._cache = getattr(output, "past_key_values", None) if self._keeps_cache else None
        return output.logits[:, -1].to(dtype=torch.float32)


class Choice:
    """Which token comes next, by the logits."""

    def __init__(self, sampling: Sampling, prompt_ids: Sequence[int]) -> None:
        self._sampling, self._seen = sampling, list(prompt_ids)
        self._processors = LogitsProcessorList()
        self._generator: torch.Generator | None = None
        if sampling.repetition_penalty != 1.0:
            self._processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        if sampling.temperature == 0:
            return
        if sampling.temperature != 1.0:
            self._processors.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            self._processors.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1.0:
            self._processors.append(TopPLogitsWarper(sampling.top_p))

    @torch.inference_mode()
    def __call__(self, logits: torch.Tensor) -> int:
        """`logits`: 1 × vocabulary. Raises `ModelError` where the model computes no numbers."""
        if bool(torch.isnan(logits).any()):
            raise ModelError(
                N_("The model produces NaN instead of an answer. Check how its adapter was trained, and its precision.")
            )
        if self._processors:
            penalised = self._sampling.repetition_penalty != 1.0
            seen = torch.tensor([self._seen if penalised else self._seen[-1:]], device=logits.device)
            logits = self._processors(seen, logits)
        if self._sampling.temperature == 0:
            token = int(torch.argmax(logits, dim=-1).item())
        else:
            probabilities = torch.softmax(logits, dim=-1)
            token = int(torch.multinomial(probabilities, 1, generator=self._drawing(logits.device)).item())
        self._seen.append(token)
        return token

    def _drawing(self, device: torch.device) -> torch.Generator:
        if self._generator is None:
            self._generator = torch.Generator(device).manual_seed(self._sampling.seed)
        return self._generator


def stream_reply(
    model: PreTrainedModel,
    prompt_ids: Sequence[int],
    sampling: Sampling,
    *,
    tokenizer: PreTrainedTokenizerBase,
    stops: Collection[int],
    within: Callable[[], AbstractContextManager[object]] = nullcontext,
    max_positions: int | None = None,
) -> Iterator[Piece]:
    """The answer to `prompt_ids`, a piece for each forward; the last one says how it ended.

    `stops`: tokens that end it. `within`: a context for each forward, which makes `model` the one that answers.
    `max_positions`: tokens that the model reads at most; the answer ends there. What is not asked for is not computed.
    """
    forward, choose = Forward(model), Choice(sampling, prompt_ids)
    texts, stop_texts = TokenTexts(tokenizer), StopTexts(sampling.stop)
    most = sampling.max_new_tokens
    if max_positions is not None:
        most = min(most, max_positions - len(prompt_ids))
    borders = range(0, len(prompt_ids), READ_AT_ONCE)
    for begin in borders:
        with within():
            logits = forward(prompt_ids[begin : begin + READ_AT_ONCE])
        if begin != borders[-1]:
            yield Piece("", None)
    for number in range(1, most + 1):
        token = choose(logits)
        if token in stops:
            yield Piece(*_closing(texts, stop_texts, token, "end"))
            return
        text, is_stopped = stop_texts.add(texts.add(token))
        if is_stopped:
            yield Piece(text, token, "stop")
            return
        if number == most:
            last, token_, ended = _closing(texts, stop_texts, token, "length")
            yield Piece(text + last, token_, ended)
            return
        yield Piece(text, token)
        with within():
            logits = forward([token])


def _closing(texts: TokenTexts, stop_texts: StopTexts, token: int, ended: Ended) -> tuple[str, int, Ended]:
    """What was held out, at the end of an answer."""
    text, is_stopped = stop_texts.add(texts.rest())
    return (text, token, "stop") if is_stopped else (text + stop_texts.rest(), token, ended)


def parameters_of(model: PreTrainedModel) -> Collection[str]:
    """Names of what the model's forward takes."""
    return inspect.signature(model.forward).parameters.keys()
