"""What is asked behind each token of an answer: how far it is, and whether it ends here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import StoppingCriteria

from lora_backend.training.answer_progress import AnswerProgress


class AtEachToken(StoppingCriteria):  # type: ignore[misc]  # transformers' class is untyped
    """Asked by `generate` behind each new token: tells how far it is, and ends it where a stop was asked for."""

    def __init__(
        self,
        prompt_tokens: int,
        max_new_tokens: int,
        ends: torch.Tensor,
        shall_stop: Callable[[], bool],
        progress: AnswerProgress | None,
        has_stop_text: Callable[[torch.Tensor], torch.Tensor] | None = None,
        ended: Callable[[torch.Tensor, torch.Tensor], None] = lambda rows, new: None,
    ) -> None:
        """`ended` is called as often as progress is told, with which rows have ended, and the new tokens of all."""
        self.prompt_tokens, self.max_new_tokens, self.ends = prompt_tokens, max_new_tokens, ends
        self.shall_stop, self.progress, self.has_stop_text = shall_stop, progress, has_stop_text
        self.ended = ended
        self.has_stopped = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        if self.progress is not None and self.progress.is_due():
            new = input_ids[:, self.prompt_tokens :]
            rows = self.have_ended(new)
            finished = int(rows.sum())  # waits for the device, so not at every token
            self.ended(rows, new)
            self.progress.tell(finished, (len(new) - finished) * new.shape[1] / self.max_new_tokens)
        self.has_stopped = self.has_stopped or self.shall_stop()
        if self.has_stop_text is not None and not self.has_stopped:
            return self.has_stop_text(input_ids[:, self.prompt_tokens :])
        return torch.full((input_ids.shape[0],), self.has_stopped, dtype=torch.bool, device=input_ids.device)

    def have_ended(self, new: torch.Tensor) -> torch.Tensor:
        """Which rows hold a token that ends an answer, or all that an answer may have. `new`: rows × new tokens."""
        return torch.isin(new, self.ends).any(dim=1) | (new.shape[1] >= self.max_new_tokens)
