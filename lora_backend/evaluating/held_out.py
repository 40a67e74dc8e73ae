"""The loss of rows by a model as it is: of each row by itself, whatever it shares a batch with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.modeling.loss import IGNORED, TILE_BYTES, ChunkedLoss
from lora_backend.modeling.loss_check import verified_chunked_loss
from lora_backend.modeling.out_of_memory import OutOfMemoryError, is_out_of_memory
from lora_backend.modeling.step import computing_in, inputs_device
from lora_backend.tokens.token_rows import PackedRow

logger = logging.getLogger(__name__)
MOST_TOKENS = 8192
"""Of a batch, padding with them; a longer row has one to itself."""
MOST_ROWS = 64


class RowLosses(NamedTuple):
    """Figures of each row, in the order of the rows."""

    nats: npt.NDArray[np.float64]
    """Negative log-likelihood of its learned tokens, summed; NaN where it is no number."""
    num_tokens: npt.NDArray[np.int64]
    """Learned tokens that something stands before."""
    num_right: npt.NDArray[np.int64]
    """Of these, those that the model would have chosen itself."""

    @property
    def loss(self) -> float:
        """Of all rows, nats a learned token."""
        return float(self.nats.sum() / self.num_tokens.sum())

    @property
    def token_accuracy(self) -> float:
        """Share of the learned tokens that the model would have chosen itself."""
        return float(self.num_right.sum() / self.num_tokens.sum())


def loss_of(
    model: nn.Module,
    rows: Sequence[PackedRow],
    *,
    precision: str = "fp32",
    report: Callable[[float], None] = lambda _: None,
    tile_bytes: int = TILE_BYTES,
) -> RowLosses:
    """The losses of `rows` by `model`, in evaluation mode and without gradients; token n predicts token n + 1.

    Rows of like length share a batch, the longest first; a batch that does not fit is halved. `precision`: fp32, bf16 or
    fp16, the last two under autocast, as training evaluates. Of the logits one tile of `tile_bytes` is there at a time,
    where the model's own are their sum; else those of a batch. `report` hears, behind each batch, how much is done.
    Raises `OutOfMemoryError` where a single row does not fit.
    """
    model.eval()
    measuring = _Measuring(model, rows, precision, tile_bytes)
    lengths = [len(row.ids) for row in rows]
    done, whole = 0, sum(lengths)
    for places in _batches(lengths):
        measuring.add(places)
        done += sum(lengths[place] for place in places)
        report(done / whole)
    return measuring.found


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of rows that share a batch."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) == MOST_ROWS or (len(batch) + 1) * lengths[batch[0]] > MOST_TOKENS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


class _Measuring:
    """The figures of rows, filled batch by batch."""

    def __init__(self, model: nn.Module, rows: Sequence[PackedRow], precision: str, tile_bytes: int) -> None:
        self.model, self.rows, self.precision, self.tile_bytes = model, rows, precision, tile_bytes
        self.device = inputs_device(model)
        size = len(rows)
        self.found = RowLosses(np.zeros(size), np.zeros(size, np.int64), np.zeros(size, np.int64))
        try:
            with computing_in(precision, self.device):
                self.chunked: ChunkedLoss | None = verified_chunked_loss(model)
        except ModelError:
            logger.info("loss: from the logits of all tokens of a batch, for in pieces they are not the model's own")
            self.chunked = None

    def add(self, places: Sequence[int]) -> None:
        """Measure these rows together; halved where they do not fit."""
        try:
            self._measure(places)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        else:
            fits = True
        if fits:  # what follows is outside of the `except`, whose traceback holds the batch's tensors
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(places) == 1:
            raise OutOfMemoryError(
                N_("A row of {count} tokens does not fit in memory next to the model. Set a smaller `max_length`."),
                count=len(self.rows[places[0]].ids),
            )
        logger.warning("%s rows at once need more memory than there is: they are halved", len(places))
        half = len(places) // 2
        self.add(places[:half])
        self.add(places[half:])

    def _measure(self, places: Sequence[int]) -> None:
        ids, mask, targets = _padded([self.rows[place] for place in places])
        at, columns = (targets != IGNORED).nonzero(as_tuple=True)
        inputs = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        nats, right = np.zeros(len(at)), np.zeros(len(at), bool)
        with torch.no_grad(), computing_in(self.precision, self.device):
            for tile, logits in self._logits(inputs, at, columns):
                aims = targets[at[tile], columns[tile]].to(logits.device)
                nats[tile] = nn.functional.cross_entropy(logits.float(), aims, reduction="none").double().cpu().numpy()
                right[tile] = (logits.argmax(dim=-1) == aims).cpu().numpy()
        rows, size = at.numpy(), len(places)
        self.found.nats[places] = np.bincount(rows, nats, size)
        self.found.num_tokens[places] = np.bincount(rows, minlength=size)
        self.found.num_right[places] = np.bincount(rows, right, size).astype(np.int64)

    def _logits(
        self, inputs: dict[str, torch.Tensor], at: torch.Tensor, columns: torch.Tensor
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """The logits before each target, a tile of tokens × vocabulary at a time."""
        if self.chunked is None:
            logits = self.model(**inputs, use_cache=False)["logits"]
            at, columns = at.to(logits.device), columns.to(logits.device)
            for tile in self._tiles(len(at), logits.shape[-1]):
                yield tile, logits[at[tile], columns[tile]]
            return
        hidden, vocabulary = self.chunked.hidden_states(**inputs)
        hidden = hidden[at.to(hidden.device), columns.to(hidden.device)]
        for tile in self._tiles(len(hidden), vocabulary):
            yield tile, self.chunked.tail(hidden[tile][None])[0]

    def _tiles(self, num_tokens: int, vocabulary: int) -> Iterator[slice]:
        size = max(self.tile_bytes // (4 * vocabulary), 1)
        return (slice(begin, begin + size) for begin in range(0, num_tokens, size))


def _padded(rows: Sequence[PackedRow]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask and targets, all rows × tokens; a place's target is the learned token behind it."""
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    targets = np.full(shape, IGNORED, np.int64)
    for place, row in enumerate(rows):
        size = len(row.ids)
        ids[place, :size], mask[place, :size] = row.ids, 1
        targets[place, : size - 1] = np.where(row.is_trained[1:], row.ids[1:], IGNORED)
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(targets)
