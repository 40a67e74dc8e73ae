"""The process that trains, as its run sees it: how it begins, and what torch's own errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers.utils import logging as transformers_logging

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import Message
from lora_backend.installation import Installation
from lora_backend.modeling.out_of_memory import is_out_of_memory
from lora_backend.runs.processes.run_session import run_session
from lora_backend.runs.record.failures import failure
from lora_backend.runs.record.run_store import RunStore


@contextmanager
def training_session(folder: RunStore, installation: Installation) -> Iterator[None]:
    """`run_session` for a process with torch in it. How long ago that was asked does not count: torch takes seconds."""
    transformers_logging.disable_progress_bar()  # a bar is no line of a log
    with run_session(folder, installation, explain_torch):
        yield


def explain_torch(error: BaseException) -> tuple[str, Message] | None:
    """What ran out of memory; None for an error that is none of torch's."""
    if isinstance(error, FlightdeckError):
        return None
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "gpu_out_of_memory", failure("gpu_out_of_memory").message
    if is_out_of_memory(error):
        return "host_out_of_memory", failure("host_out_of_memory").message
    return None
