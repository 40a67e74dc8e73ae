"""One pass over the held-back rows: their mean loss, and how many of their tokens the model would have chosen itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from peft import PeftModel

from lora_backend.modeling.label_count import labels_that_count
from lora_backend.modeling.loss import IGNORED
from lora_backend.modeling.step import LossPath, micro_batch_loss
from lora_backend.peers.peers import Alone, Peers
from lora_backend.training.batches import EvalBatches
from lora_backend.training.flat_batch import num_rows_in
from lora_backend.training.idle_pass import idle_pass
from lora_backend.training_state.randomness import nothing_drawn


class Evaluated(NamedTuple):
    """What came of it; None for what is no number."""

    loss: float | None
    """Nats a token: the mean over batches, each by its rows, as transformers' Trainer has it."""
    token_accuracy: float | None
    """Of all learned tokens together; None where there was none."""


@dataclass
class TokenHits:
    """Counts the tokens of which the likeliest word is the one that comes."""

    hits: list[torch.Tensor] = field(default_factory=list)
    tokens: int = 0
    """Of which it was asked."""

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        counts = targets != IGNORED
        self.hits.append(((logits.argmax(dim=-1) == targets) & counts).sum())
        self.tokens += int(counts.sum())

    def share(self, peers: Peers) -> float | None:
        """Of what all processes have counted."""
        hits, tokens = peers.total(sum(int(one) for one in self.hits)), peers.total(self.tokens)
        return hits / tokens if tokens else None


def evaluation_pass(
    model: PeftModel,
    batches: EvalBatches,
    *,
    precision: str,
    loss_path: LossPath,
    shall_stop: Callable[[], bool],
    peers: Peers | None = None,
) -> Evaluated | None:
    """None where a stop came before the last batch. Draws no random numbers that training would draw.

    Batches are dealt out in turn; `shall_stop` is asked before each turn, by all processes together. The result has the
    bits that one process gives, as far as each batch's loss has.
    """
    peers = peers or Alone()
    losses: list[np.ndarray] = []
    hits, is_whole = TokenHits(), False
    model.eval()
    try:
        with nothing_drawn(), torch.no_grad(), closing(iter(batches)) as made:
            for number, batch in enumerate(made):
                if number % peers.size == 0 and shall_stop():
                    break
                if number % peers.size != peers.rank:
                    continue
                num_items = labels_that_count(model, [batch["labels"]])
                loss = micro_batch_loss(
                    model, batch, precision=precision, loss_path=loss_path, num_items=num_items, on_logits=hits
                )
                losses.append(np.full(num_rows_in(batch), loss.float().cpu().numpy()))  # each row counts alike
            else:
                is_whole = True
                if 0 < len(batches) % peers.size <= peers.rank:  # the last turn was not this process's
                    idle_pass(model, [batch], 1, precision, loss_path)
    finally:
        model.train()
    if not is_whole:
        return None
    of_all = peers.gathered(losses)
    in_order = [of_all[number % peers.size][number // peers.size] for number in range(len(batches))]
    mean_loss = float(np.concatenate(in_order).mean())
    return Evaluated(mean_loss if math.isfinite(mean_loss) else None, hits.share(peers))
