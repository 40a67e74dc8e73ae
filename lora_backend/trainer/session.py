"""The process that trains, as its run sees it: identity, log, and how it ends."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers.utils import logging as transformers_logging

from lora_backend.errors import DiskFullError, FlightdeckError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.modeling.out_of_memory import is_out_of_memory
from lora_backend.os_errors import in_words, is_disk_full
from lora_backend.runs.processes.signals import StoppedNowError
from lora_backend.runs.record.documents import Exit, SaidFailure
from lora_backend.runs.record.failures import failure, failure_of
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import begin_training, end
from lora_backend.terminal import LogFormatter

logger = logging.getLogger(__name__)


@contextmanager
def training_session(folder: RunStore, installation: Installation) -> Iterator[None]:
    """Let the block be the run's trainer: its log goes to `train.log`, its failure into the run.

    Raises `RunError` where another process trains it. How long ago that was asked does not count: torch takes seconds.
    Under a supervisor the supervisor writes `exit.json`; without one this does.
    """
    supervised = installation.is_supervised
    begin_training(folder)
    with _logging_to(folder, supervised):
        try:
            yield
        except StoppedNowError:  # whoever handles the signals writes that down
            logger.warning("the run is stopped at once")
            raise
        except BaseException as error:
            logger.exception("the run failed")
            cause, message = _failure(error, folder, installation)
            said = SaidFailure(cause=cause, message=message)
            with folder.changing_status() as status:
                status.attempt.failure = said
            if not supervised:
                found = failure_of(said, None, folder.train_log)  # with the remedy, as a supervisor writes it
                end(folder, Exit.of("failed", cause=found.cause, message=found.message, remedy=found.remedy))
            raise
        with folder.changing_status() as status:
            left = status.attempt
            left.outcome = left.outcome or "finished"
        if not supervised:
            end(folder, Exit.of(left.outcome, cause=left.outcome_cause, message=left.outcome_message))


@contextmanager
def _logging_to(folder: RunStore, supervised: bool) -> Iterator[None]:
    """Our log to stderr and to `train.log`; under a supervisor stderr is that file already."""
    ours = logging.getLogger("lora_backend")
    handlers: list[logging.Handler] = []
    if not supervised:
        handlers.append(logging.FileHandler(folder.train_log, encoding="utf-8"))
    if not logging.getLogger().handlers and not ours.handlers:
        handlers.append(logging.StreamHandler(sys.stderr))
    transformers_logging.disable_progress_bar()  # a bar is no line of a log
    level = ours.level
    ours.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(LogFormatter(with_tracebacks=supervised or isinstance(handler, logging.FileHandler)))
        ours.addHandler(handler)
    try:
        yield
    finally:
        ours.setLevel(level)
        for handler in handlers:
            ours.removeHandler(handler)
            handler.close()


def _failure(error: BaseException, folder: RunStore, installation: Installation) -> tuple[str, Message]:
    """A cause, as a code, and one sentence for the screen; the log has the traceback."""
    if isinstance(error, FlightdeckError):
        return error.code, error.message
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", Message(N_("The run was interrupted at the keyboard."))
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "gpu_out_of_memory", failure("gpu_out_of_memory").message
    if is_out_of_memory(error):
        return "host_out_of_memory", failure("host_out_of_memory").message
    if is_disk_full(error):
        return DiskFullError.code, Message(
            N_("The disk is full: there is no space left in {folder}. Free some space, then start the run again."),
            {"folder": str(folder.path)},
        )
    if isinstance(error, OSError) and error.errno is not None:
        return "code", in_words(error, installation.workspace).message
    reason = first_line(error)
    return "code", Message(N_("The run failed with {kind}: {reason}"), {"kind": type(error).__name__, "reason": reason})
