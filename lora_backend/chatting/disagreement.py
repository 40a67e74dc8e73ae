"""How far adapter and base model disagree on each token of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from transformers import PreTrainedModel

from lora_backend.chats.documents import TokenKl
from lora_backend.chatting.columns import ChatModel
from lora_backend.chatting.generation import READ_AT_ONCE, parameters_of
from lora_backend.chatting.reply_text import TokenTexts
from lora_backend.errors import ModelError
from lora_backend.i18n import N_

NEEDED = {"past_key_values", "logits_to_keep"}
AT_ONCE = 64
"""Tokens whose distributions are in memory at once: of a vocabulary of 150,000 that is 38 MB each."""


def disagreement(chat_model: ChatModel, label: str, prompt_ids: Sequence[int], text: str) -> Iterator[list[TokenKl]]:
    """The tokens of the answer `text` to `prompt_ids`, some at a time, each with KL(adapter ‖ base), nats.

    KL(p ‖ q) = Σ p (log p − log q) over the vocabulary, p the adapter's distribution at that place and q the base
    model's, both after the same tokens. One pass of each model. Raises `ModelError` for a model without a cache.
    """
    if not set(parameters_of(chat_model.model)) >= NEEDED:
        raise ModelError(
            N_("This model keeps no state of earlier tokens, so there is no way to show where the two disagree.")
        )
    ids = [int(token) for token in chat_model.tokenizer(text, add_special_tokens=False)["input_ids"]]
    adapter, base = _Reading(chat_model.model), _Reading(chat_model.model)
    texts = TokenTexts(chat_model.tokenizer, with_marks=True)
    before = list(prompt_ids)
    for begin in range(0, len(ids), AT_ONCE):
        part = ids[begin : begin + AT_ONCE]
        ours = adapter.log_probabilities(chat_model.use(label), before, len(part), part)
        theirs = base.log_probabilities(chat_model.base(), before, len(part), part)
        kl = (ours.exp() * (ours - theirs)).nan_to_num(nan=0.0).sum(dim=-1).clamp(min=0.0)
        pieces = [texts.add(token) for token in part]
        if begin + AT_ONCE >= len(ids):
            pieces[-1] += texts.rest()
        yield [TokenKl(text=piece, kl=float(value)) for piece, value in zip(pieces, kl.tolist(), strict=True)]
        before = part[-1:]


class _Reading:
    """One model's pass over a text whose tokens are known."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model, self._cache = model, None
        self._device = model.get_input_embeddings().weight.device

    @torch.inference_mode()
    def log_probabilities(
        self, within: AbstractContextManager[object], before: Sequence[int], count: int, part: Sequence[int]
    ) -> torch.Tensor:
        """count × vocabulary, fp32: of each token of `part`, after `before` and those of `part` in front of it."""
        given = [*before, *part[: count - 1]]
        with within:
            for begin in range(0, len(given) - count, READ_AT_ONCE):
                self._read(given[begin : min(begin + READ_AT_ONCE, len(given) - count)], 1)
            logits = self._read(given[-count:], count)
        return torch.log_softmax(logits.to(torch.float32), dim=-1)

    def _read(self, ids: Sequence[int], keep: int) -> torch.Tensor:
        given = torch.tensor([list(ids)], device=self._device)
        output = self._model(input_ids=given, past_key_values=self._cache, use_cache=True, logits_to_keep=keep)
        self._cache = output.past_key_values
        logits = output.logits[0, -keep:]
        assert isinstance(logits, torch.Tensor)
        return logits
