"""The progress of a job in the foreground, on stderr: one line in a terminal, few lines in a log."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lora_backend.i18n import current_language, use_language
from lora_backend.runs.record.run_store import RunStore
from lora_backend.terminal import show, show_over
from lora_backend.views.state_view import stage_parts

LOOK_EVERY_S = 0.5
LOG_EVERY = 20
"""Looks between two lines of the same stage where stderr is no terminal."""


@contextmanager
def shown_progress(run: RunStore) -> Iterator[None]:
    """Tell how far the job is while the block does it."""
    ended = threading.Event()
    teller = threading.Thread(target=_tell, args=(run, ended, current_language()), daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _tell(run: RunStore, ended: threading.Event, language: str) -> None:
    """A language is set for each thread by itself."""
    is_terminal, looks, said = sys.stderr.isatty(), 0, ""
    with use_language(language):
        while not ended.wait(LOOK_EVERY_S):
            attempt = run.read_status().attempt
            if attempt.stage is None:
                continue
            line = ": ".join(map(str, stage_parts(run.state())))
            if is_terminal:
                show_over(line)
                said = line
            elif attempt.stage != said or looks >= LOG_EVERY:
                show(line, to_stderr=True, flush=True)
                said, looks = attempt.stage, 0
            looks += 1
    if is_terminal and said:
        show(to_stderr=True)
