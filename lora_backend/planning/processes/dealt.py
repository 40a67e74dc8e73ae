"""How an optimizer step's micro-batches are dealt out to processes."""

from __future__ import annotations

from lora_backend.config.schema import TrainingConfig


def passes_of(config: TrainingConfig) -> int:
    """Micro-batches of an optimizer step: as many forward and backward passes, in all processes together."""
    return max((config.target_batch_size or config.batch_size) // config.batch_size, 1)


def rounds_of(config: TrainingConfig, num_processes: int) -> int:
    """Passes of a step that follow one another: micro-batch k goes to process k mod `num_processes`, so the first has most."""
    return -(-passes_of(config) // num_processes)
