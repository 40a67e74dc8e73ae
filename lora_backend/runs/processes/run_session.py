"""The process that does a run, as the run sees it: identity, log, and how it ends."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_backend.errors import DiskFullError, FlightdeckError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.os_errors import in_words, is_disk_full
from lora_backend.runs.processes.peer_end import PeerFailedError
from lora_backend.runs.processes.signals import StoppedNowError
from lora_backend.runs.record.documents import Exit
from lora_backend.runs.record.failures import failure_of
from lora_backend.runs.record.peer_documents import SaidFailure
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import begin_training, end
from lora_backend.terminal import LogFormatter

logger = logging.getLogger(__name__)
Explain = Callable[[BaseException], tuple[str, Message] | None]
"""A cause as a code and a sentence, for an error that only whoever does the work understands; None for all others."""


@contextmanager
def run_session(folder: RunStore, installation: Installation, explain: Explain = lambda _: None) -> Iterator[None]:
    """Let the block do the run: its log goes to `train.log`, its failure into the run.

    Raises `RunError` where another process does it. Under a supervisor the supervisor writes `exit.json`; without one
    this does.
    """
    supervised = installation.is_supervised
    begin_training(folder)
    with logging_to(folder.train_log, is_stderr=supervised):
        try:
            yield
        except StoppedNowError:  # whoever handles the signals writes that down
            logger.warning("the run is stopped at once")
            raise
        except BaseException as error:
            if isinstance(error, PeerFailedError):  # its own log has the traceback
                logger.error("the run failed: %s", error)
                said = error.said
            else:
                logger.exception("the run failed")
                said = said_of(error, folder, installation, explain)
            with folder.changing_status() as status:
                status.attempt.failure = said
            if not supervised:
                found = failure_of(
                    said, None, folder.peer_log(said.rank or 0)
                )  # with the remedy, as a supervisor writes it
                end(folder, Exit.of("failed", cause=found.cause, message=found.message, remedy=found.remedy))
            raise
        with folder.changing_status() as status:
            left = status.attempt
            left.outcome = left.outcome or "finished"
        if not supervised:
            end(folder, Exit.of(left.outcome, cause=left.outcome_cause, message=left.outcome_message))


@contextmanager
def logging_to(path: Path, *, is_stderr: bool) -> Iterator[None]:
    """Our log to stderr and to a file; under a supervisor stderr is that file already."""
    ours = logging.getLogger("lora_backend")
    handlers: list[logging.Handler] = []
    if not is_stderr:
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
    if not logging.getLogger().handlers and not ours.handlers:
        handlers.append(logging.StreamHandler(sys.stderr))
    level = ours.level
    ours.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(LogFormatter(with_tracebacks=is_stderr or isinstance(handler, logging.FileHandler)))
        ours.addHandler(handler)
    try:
        yield
    finally:
        ours.setLevel(level)
        for handler in handlers:
            ours.removeHandler(handler)
            handler.close()


def said_of(error: BaseException, folder: RunStore, installation: Installation, explain: Explain) -> SaidFailure:
    """A failure as it is written down."""
    cause, message = explain(error) or _failure(error, folder, installation)
    return SaidFailure(cause=cause, message=message, time=folder.clock())


def _failure(error: BaseException, folder: RunStore, installation: Installation) -> tuple[str, Message]:
    """A cause, as a code, and one sentence for the screen; the log has the traceback."""
    if isinstance(error, FlightdeckError):
        return error.code, error.message
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", Message(N_("The run was interrupted at the keyboard."))
    if is_disk_full(error):
        return DiskFullError.code, Message(
            N_("The disk is full: there is no space left in {folder}. Free some space, then start the run again."),
            {"folder": str(folder.path)},
        )
    if isinstance(error, OSError) and error.errno is not None:
        return "code", in_words(error, installation.workspace).message
    reason = first_line(error)
    return "code", Message(N_("The run failed with {kind}: {reason}"), {"kind": type(error).__name__, "reason": reason})
