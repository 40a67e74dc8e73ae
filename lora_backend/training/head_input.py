"""What the head of a model is given while it generates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from transformers import PreTrainedModel


@contextmanager
def rows_in_one_piece(model: PeftModel | PreTrainedModel) -> Iterator[None]:
    """Within the block the head gets its input in one piece of memory.

    `generate` asks for the last token's logits, a slice of every row. From a slice torch makes a product for each row, and
    for that a copy of the head's weight for each: of 56 rows and SmolLM2's table 3 GiB, and two thirds of the time of reading prompts.
    """
    head = model.get_output_embeddings()
    if head is None:
        yield
        return
    with head.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]) if args else None):
        yield
