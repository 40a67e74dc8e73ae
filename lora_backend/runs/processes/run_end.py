"""How a run ended, from what its trainer left: written down once, as soon as there is room for it."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from lora_backend.runs.record.documents import Exit
from lora_backend.runs.record.failures import Failure, failure, failure_of, last_log_lines
from lora_backend.runs.record.locked_files import open_to_append
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import end
from lora_backend.terminal import LogFormatter

logger = logging.getLogger(__name__)
WITHOUT_A_WORD = frozenset({"crashed", "ended_unseen"})
"""Causes of a trainer that left no word of why it ended."""


def write_end(
    run: RunStore, returncode: int | None, num_ends: int, *, forced: Failure | None = None, oom_killed: bool = False
) -> None:
    """`exit.json` from what the trainer left in `status.json` and in its log, and from its return code
    (negative: a signal; None: nobody saw it)."""
    said = run.read_status().attempt
    if said.outcome:
        how = Exit.of(said.outcome, cause=said.outcome_cause, message=said.outcome_message, returncode=returncode)
        return write_exit(run, how, num_ends)
    found = forced or failure_of(said.failure, returncode, log_of_failure(run), oom_killed=oom_killed)
    if found.cause in WITHOUT_A_WORD and run.has_no_room():  # not even for the trainer's last words
        found = failure("disk_full")
    return write_failure(run, found, returncode, num_ends)


def write_failure(run: RunStore, found: Failure, returncode: int | None, num_ends: int) -> None:
    """The end of a run that failed, with its log's last lines; one that had to be stopped by force has not failed."""
    how = Exit.of(
        "stopped" if found.cause == "stop_deadline" else "failed",
        cause=found.cause,
        message=found.message,
        remedy=found.remedy,
        returncode=returncode,
        log=last_log_lines(log_of_failure(run)),
    )
    write_exit(run, how, num_ends)


def log_of_failure(run: RunStore) -> Path:
    """The log that says why a run failed: of several processes that of the one which failed, where it ran on this machine."""
    said = run.read_status().attempt.failure
    log = run.peer_log(said.rank or 0) if said else run.train_log
    return log if log.exists() else run.train_log


def say_in_log(run: RunStore, text: str, *values: object, level: int = logging.WARNING) -> None:
    """A line of ours in the run's own log."""
    logger.log(level, text, *values)
    record = logging.LogRecord(__name__, level, __file__, 0, text, values, None)
    append_to_log(run, f"{LogFormatter().format(record)}\n")


def append_to_log(run: RunStore, text: str) -> None:
    """Lines at the end of the run's log, where there is room."""
    try:
        with open_to_append(run.train_log) as log:
            log.write(text.encode())
    except OSError:
        return


def write_exit(run: RunStore, how: Exit, num_ends: int) -> None:
    """As soon as there is room for it; a folder that is gone needs none."""
    while run.path.exists():
        try:
            end(run, how, num_ends=num_ends)
        except OSError as error:
            logger.warning("the end cannot be written yet: %s", error)
            time.sleep(1)
        else:
            return
