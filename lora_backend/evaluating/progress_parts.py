"""How far an evaluation is: some passes over rows or questions by every column, each about as long."""

from __future__ import annotations

import time
from collections.abc import Callable

from lora_backend.formats import duration
from lora_backend.i18n import N_, Message
from lora_backend.runs.processes.job_progress import JobProgress
from lora_backend.training.answer_progress import Answered


class PassesDone:
    """Says in the job's status how far all of its passes are, and about how long the others take."""

    def __init__(self, progress: JobProgress, num_passes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress, self._num_passes, self._clock = progress, num_passes, clock
        self._done, self._label = 0, ""
        self._began: float | None = None

    def begin(self, stage: str, label: str) -> None:
        """A pass of the column `label`. Raises `JobStoppedError`, as all here do, where the job shall stop."""
        self._label, self._began = label, self._clock() if self._began is None else self._began
        self._progress.stage(stage, Message("{column}", {"column": label}))

    def at(self, part: float, count: int, of: int) -> None:
        """So much of this pass is done: `count` of its rows."""
        fraction = (self._done + part) / self._num_passes
        left_s = (self._clock() - (self._began or 0.0)) * (1 - fraction) / fraction if fraction else None
        values = {"column": self._label, "count": f"{count:,}", "rows": f"{of:,}", "time": duration(left_s)}
        said = (
            N_("{column}: {count} of {rows}")
            if left_s is None
            else N_("{column}: {count} of {rows}, about {time} left")
        )
        self._progress.at(fraction, Message(said, values), left_s)

    def answered(self, far: Answered) -> None:
        """As `answer_all` reports it."""
        self.at(far.part, far.answered, far.questions)

    def end(self) -> None:
        """The pass is done."""
        self._done += 1
