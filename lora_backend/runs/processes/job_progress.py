"""How a job says how far it is, and hears that it shall stop."""

from __future__ import annotations

import logging
import time

from lora_backend.i18n import Message
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)
WRITE_EVERY_S = 0.5


class JobStoppedError(Exception):
    """Somebody asked the job to stop. It takes back what is half done, and lets this pass."""


class JobProgress:
    """Of one job's process; its stage, fraction and detail stand in the run's status."""

    def __init__(self, folder: RunStore) -> None:
        self._folder = folder
        self._written_at = 0.0

    def stage(self, name: str, detail: Message | None = None) -> None:
        """Say what the job is at from now on. Raises `JobStoppedError` where it shall stop."""
        self.refuse_stop()
        logger.info("stage %s", name)
        with self._folder.changing_status() as status:
            now = status.attempt
            now.stage, now.detail, now.fraction, now.eta_s = name, detail, 0.0, None
        self._written_at = time.monotonic()

    def at(self, fraction: float, detail: Message | None = None, eta_s: float | None = None) -> None:
        """Say how far this stage is, from 0 to 1; written twice a second at most. Raises `JobStoppedError` where the job
        shall stop, so it is called between any two pieces of work that can be taken back."""
        self.refuse_stop()
        if fraction < 1 and time.monotonic() - self._written_at < WRITE_EVERY_S:
            return
        self._written_at = time.monotonic()
        with self._folder.changing_status() as status:
            now = status.attempt
            now.fraction, now.detail, now.eta_s = min(max(fraction, 0.0), 1.0), detail, eta_s

    def refuse_stop(self) -> None:
        """Raise `JobStoppedError` where somebody asked for a stop."""
        if self._folder.stop_request.exists():
            raise JobStoppedError
