"""While it trains the adapter answers the config's questions now and then, and training takes no notice of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from lora_backend.modeling.compiled_parts import without_compiled
from lora_backend.modeling.flat_model import own_attention
from lora_backend.modeling.out_of_memory import is_out_of_memory
from lora_backend.peers.sharding import sharers_of
from lora_backend.training.answers import answer_until
from lora_backend.training_state.randomness import nothing_drawn

logger = logging.getLogger(__name__)
MOST_QUESTIONS = 8


class Sampler:
    """Asks the first questions of a config every so many steps. Made before training begins: so it knows how the model
    computes outside of it."""

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        questions: Sequence[dict[str, Any]],
        every_steps: int,
    ) -> None:
        self._model, self._tokenizer, self._every_steps = model, tokenizer, every_steps
        self._questions = questions[:MOST_QUESTIONS]
        self._outside_of_training = own_attention(model)

    def is_due(self, step: int) -> bool:
        return step % self._every_steps == 0

    def answers(self, shall_stop: Callable[[], bool]) -> list[tuple[str, str]] | None:
        """Each question with its answer; None where a stop came before the last. Empty, said in the log, where memory
        does not suffice: no run ends for that, unless several processes share the model's weights. Afterwards the model trains on, as if nothing had been asked."""
        try:
            with nothing_drawn(), without_compiled(self._model), self._outside_of_training():
                found = answer_until(self._model, self._tokenizer, self._questions, shall_stop)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or sharers_of(self._model).size > 1:
                raise
            found = []
        finally:
            self._model.train()
        if not found:
            logger.warning("there is not enough memory to answer a question beside training: this sample is left out")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if any(answer is None for answer in found):
            return None
        asked = (question["messages"][-1]["content"] for question in self._questions)
        return [(question, answer or "") for question, answer in zip(asked, found, strict=False)]
