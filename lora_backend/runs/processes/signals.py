"""SIGINT (Ctrl-C), SIGTERM, SIGHUP and SIGUSR2 ask a run for what a stop asks: a checkpoint after this step, then its end."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from lora_backend.atomic import write_json
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.runs.record.documents import Exit, StopRequest
from lora_backend.runs.record.failures import failure
from lora_backend.runs.record.provenance import system_user
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import AFTER_TRAINING, WITH_STEPS
from lora_backend.runs.record.transitions import end

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""The last is what a cluster sends a while before it ends a job: Slurm by `--signal=USR2@90`, as submitit asks it to."""
SAYS = {
    "steps": N_("Stopping: saving a checkpoint after this step … Press Ctrl-C again to stop now."),
    "after": N_("Stopping: the adapter is saved, then the run ends. Press Ctrl-C again to stop now."),
    "before": N_("Stopping: the run ends before its first step. Press Ctrl-C again to stop now."),
    "job": N_("Stopping: unfinished work is not kept. Press Ctrl-C again to stop now."),
    "download": N_(
        "Pausing: what was downloaded is kept, and the next download continues from it. Press Ctrl-C again to stop now."
    ),
    "unwritten": N_("The stop request cannot be written to the run's folder. Press Ctrl-C again to stop now."),
}


class StoppedNowError(KeyboardInterrupt):
    """A second signal: the run ends at once, and what came after its last checkpoint is lost."""


class StopSignals:
    """Let signals stop the run in `folder` while the block trains it; afterwards they do again what they did before.

    Only in the main thread, where Python lets handlers be set; in another the block just runs. A signal that is ignored
    (`nohup`, a job in the background of a script) stays ignored.
    """

    def __init__(self, folder: RunStore, installation: Installation) -> None:
        self.received: int | None = None
        """The first signal, once one came."""
        self._folder = folder
        self._is_supervised = installation.is_supervised
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        self._before: dict[int, Any] = {}
        # A handler may run in the middle of anything: what it says and writes is made ready before.
        self._says = {name: Message(template).text() for name, template in SAYS.items()}
        self._actor = system_user()
        record = folder.glance_at_record()
        kind = record.kind if record else "train"
        self._says_of_job = None if kind == "train" else "download" if kind == "download" else "job"

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, StoppedNowError):
            found = failure("stopped_now", signal=signal.Signals(error.args[0]).name)
            end(self._folder, Exit.of("stopped", cause=found.cause, message=found.message, remedy=found.remedy))

    @property
    def exit_code(self) -> int | None:
        """As a shell gives it to a process that a signal ended: 128 and the signal's number. None without a signal."""
        return None if self.received is None else 128 + self.received

    def pass_on(self) -> None:
        """Send the signal to this process once more, whose own handlers are back: it was meant for the process."""
        if self.received is not None:
            signal.raise_signal(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """The first asks for a stop; another ends at once. Takes no lock: the code that it interrupts may hold it."""
        if number == signal.SIGHUP:
            self._leave_terminals()
        is_asked = self._folder.stop_request.exists()
        if self._is_supervised and is_asked:
            # Whoever sends this has waited for the stop in vain; the supervisor sees by which signal it ended.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if self.received is not None:
            raise StoppedNowError(number)
        self.received = number
        try:
            if not is_asked:
                request = StopRequest(actor=self._actor, time=self._folder.clock(), signal=signal.Signals(number).name)
                write_json(self._folder.stop_request, request.to_json())
        except OSError:
            self._say("unwritten")
        else:
            stage = self._folder.read_status().attempt.stage
            self._say(
                self._says_of_job
                or ("steps" if stage in WITH_STEPS else "after" if stage in AFTER_TRAINING else "before")
            )

    def _say(self, name: str) -> None:
        """Straight to the descriptor: what was interrupted may be a write to the stream."""
        try:
            os.write(2, f"\n{self._says[name]}\n".encode("utf-8", "replace"))
        except OSError:
            return

    def _leave_terminals(self) -> None:
        """The terminal is gone: what is written to it would be an error in the middle of a step."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in self._terminals:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
        self._terminals = []
