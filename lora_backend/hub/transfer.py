"""How far a download or an upload is: bytes, speed and time left, for a job's progress."""

from __future__ import annotations

import time
from collections import deque

from lora_backend.formats import duration, size
from lora_backend.i18n import N_, Message
from lora_backend.runs.processes.job_progress import JobProgress

WINDOW_S = 10.0
"""Over which the speed is taken."""
FIRST_S = 0.5
"""Before that no speed is told."""
POLL_S = 0.2


class Transfer:
    """Of all files of a job together."""

    def __init__(self, progress: JobProgress, total_bytes: int, before_bytes: int = 0) -> None:
        """`before_bytes`: what is there already."""
        self._progress, self._total, self._done = progress, total_bytes, before_bytes
        self._moments: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self.came_bytes = 0
        """That went over the network."""

    def at(self, done_bytes: int, came_bytes: int) -> None:
        """`done_bytes` of all are there, `came_bytes` of them just now over the network. Raises `JobStoppedError`."""
        self._done = done_bytes
        self.came_bytes += came_bytes
        now = time.monotonic()
        if now - self._moments[-1][0] > WINDOW_S / 50:
            self._moments.append((now, self.came_bytes))
        while now - self._moments[0][0] > WINDOW_S:
            self._moments.popleft()
        then, before = self._moments[0]
        speed = (self.came_bytes - before) / (now - then) if now - then > FIRST_S else 0.0
        self._say(speed)

    def _say(self, speed: float) -> None:
        values: dict[str, object] = {"done": size(self._done), "total": size(self._total)}
        fraction = self._done / self._total if self._total else 1.0
        if speed <= 0:
            self._progress.at(fraction, Message(N_("{done} of {total}"), values))
            return
        left_s = max(self._total - self._done, 0) / speed
        values |= {"speed": size(speed), "left": duration(left_s)}
        self._progress.at(fraction, Message(N_("{done} of {total}, {speed}/s, {left} left"), values), left_s)

    def sleep(self, seconds: float) -> None:
        """Wait, and raise `JobStoppedError` as soon as the job shall stop."""
        end = time.monotonic() + seconds
        while True:
            self._progress.refuse_stop()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, POLL_S))

    def queue(self, seconds: float) -> None:
        """The same, while another process does the work."""
        self._progress.at(
            self._done / self._total if self._total else 0.0,
            Message(N_("waiting for another download of the same file")),
        )
        self.sleep(seconds)
