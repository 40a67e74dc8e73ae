"""Telling a want of memory from other errors."""

from __future__ import annotations

import torch

from lora_backend.errors import FlightdeckError


class OutOfMemoryError(FlightdeckError):
    """A batch needs more memory than there is."""

    code = "out_of_memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left."""
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
