"""How a start's rows share a forward pass: as `batching` says, padded where the config leaves it to a model that needs it."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from peft import PeftModel
from transformers import DataCollatorForSeq2Seq

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message
from lora_backend.modeling.flat_model import flat_attention, why_not_flat
from lora_backend.modeling.step import accepts_count
from lora_backend.tokens.epoch_order import EpochOrder
from lora_backend.tokens.token_rows import TokenRows
from lora_backend.training.batches import CallersBatches, Collate, OwnBatches, TrainBatches, Way, accumulation_steps
from lora_backend.training.epoch_batches import EpochBatches, LineBatches, RowBatches
from lora_backend.training.flat_batch import flat_batch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batching:
    """Settled once for a start."""

    way: Way
    note: Message | None = None
    """Why rows are padded though the config did not ask for it."""
    in_length_groups: bool = False
    """Whether rows of like length share a batch, among those of an optimizer step."""

    @classmethod
    def of(cls, model: PeftModel, config: TrainingConfig, precision: str, *, of_caller: bool) -> Batching:
        """`of_caller`: the batches are those of a caller's own DataLoader. Raises `ModelError` where the config asks for
        rows without padding and the model cannot train on them."""
        if config.batching == "padded":
            return cls("padded")
        if of_caller:
            return cls("padded", Message(N_("The batches come from a DataLoader and are used as they are.")))
        reason = why_not_flat(model, precision, config.attn_implementation)
        if reason is None:
            return cls("packed" if config.batching == "packed" else "flat")
        if config.batching != "auto":
            raise ModelError(
                N_("`batching: {way}` is not possible here. {reason} Set `batching: padded`."),
                way=config.batching,
                reason=reason,
            )
        # A model that takes no count averages each batch for itself: there another batch is another mean.
        is_grouped = accepts_count(model) and accumulation_steps(config, config.batch_size) > 1
        return cls("padded", reason, in_length_groups=is_grouped)

    def attention(self, model: PeftModel) -> AbstractContextManager[None]:
        """Within the block the model trains on batches of this way."""
        return nullcontext() if self.way == "padded" else flat_attention(model)

    def collate(self, padded: DataCollatorForSeq2Seq) -> Collate:
        """Rows into a batch; `padded` where they are padded."""
        return padded if self.way == "padded" else flat_batch

    def batches_of(self, rows: object, order: EpochOrder, padded: DataCollatorForSeq2Seq, config: TrainingConfig) -> OwnBatches:  # fmt: skip
        """The run's own rows, batch by batch."""
        epochs: EpochBatches = RowBatches(order, config.batch_size)
        if self.way == "packed":
            epochs = LineBatches(order, lengths_of(rows), config.max_length, config.batch_size)
        return OwnBatches(rows, epochs, self.collate(padded), config, in_length_groups=self.in_length_groups)

    def log(self, batches: TrainBatches) -> None:
        """Say which way it is, and why where that is not what the config says."""
        if isinstance(batches, CallersBatches):
            logger.info("batching: padded, as the DataLoader makes the batches")
        elif self.note is not None:
            groups = ", rows of like length together within an optimizer step" if self.in_length_groups else ""
            logger.warning("batching: padded%s. %s", groups, self.note.text("en"))
        elif isinstance(batches, OwnBatches) and isinstance(batches.epochs, LineBatches):
            lines = batches.epochs
            logger.info(
                "batching: packed: lines of up to %s tokens, %s a pass, %s passes in the first epoch; %.1f %% of their room is filled",
                batches.max_length, batches.batch_size, lines.num_in(0), 100 * lines.filled,
            )  # fmt: skip
        else:
            logger.info("batching: %s", {"flat": "flat: rows one behind the other, without padding"}.get(self.way, self.way))  # fmt: skip


def lengths_of(rows: object) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Tokens of each row by its number; those that teach nothing have none."""
    if isinstance(rows, TokenRows):
        return rows.lengths()
    return np.fromiter((len(ids) for ids in rows["input_ids"]), np.int32)  # type: ignore[index]  # a data set of columns
