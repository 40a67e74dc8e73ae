"""Ask the torch processes: one is started at the first question, more where questions come at once.

A question has a process to itself while it is answered, so none waits for another's, up to `MOST` of a kind.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lora_backend.errors import UntrainableError, WorkerError
from lora_backend.i18n import N_, Message
from lora_backend.json_pipes import PipedProcess

Kind = Literal["tracer", "model"]
LOADING = frozenset({"check_loaded_ranks", "rank_curve"})
"""Questions for which a model's weights are loaded; all others need little memory."""
MOST: dict[Kind, int] = {"tracer": 3, "model": 1}
"""Processes of a kind: one model is in memory at a time."""
SPARE_AFTER_S = 1.0
"""A question that takes longer has another process made ready: importing torch takes seconds."""
SPARE_AFTER_START_S = 10.0
"""The same for a process's first question, most of whose time is that import: a second one beside it would only slow it."""
SPARE_FOR_S = 120.0
"""How long a second idle process is kept."""
DIED = N_("The process that loads models ended before it answered. It restarts with the next request.")


class Process(PipedProcess):
    """One torch process, and the question that it is at."""

    def __init__(self, argv: Sequence[str], kind: Kind) -> None:
        super().__init__(argv)
        self.kind = kind
        self.request: Request | None = None
        self.has_answered = False


@dataclass(eq=False)
class Request:
    """One question under way; read by whoever waits for it, written by the thread that reads the answers."""

    id: int
    method: str
    params: dict[str, Any]
    process: Process | None = None
    """None while it waits for one."""
    done: threading.Event = field(default_factory=threading.Event)
    progress: Message | None = None
    fraction: float = 0.0
    result: Any = None
    error: WorkerError | UntrainableError | None = None

    @property
    def kind(self) -> Kind:
        return "model" if self.method in LOADING else "tracer"


class WorkerClient:
    """The torch processes of a dashboard, shared by all its sessions. Its methods may be called from any thread."""

    def __init__(self, argv: list[str] | None = None) -> None:
        self._argv = argv or [sys.executable, "-m", "lora_backend.worker"]
        self._lock = threading.RLock()
        self._processes: list[Process] = []
        self._waiting: list[Request] = []
        self._last_id = 0

    def submit(self, method: str, params: dict[str, Any]) -> Request:
        """Put a question; watch `progress` and `done` of what comes back."""
        with self._lock:
            self._last_id += 1
            request = Request(self._last_id, method, params)
            self._waiting.append(request)
            self._hand_out()
        return request

    def ask(
        self,
        method: str,
        params: dict[str, Any],
        deadline_s: float = 600.0,
        on_progress: Callable[[Message, float], None] = lambda *_: None,
    ) -> Any:
        """Put a question and wait for its answer. Raises `WorkerError` after `deadline_s`, or when the process dies,
        and `UntrainableError` where that is the answer."""
        request, waited_s, said = self.submit(method, params), 0.0, None
        while not request.done.wait(0.2):
            waited_s += 0.2
            if request.progress is not None and request.progress != said:
                said = request.progress
                on_progress(said, request.fraction)
            if waited_s >= deadline_s:
                self.cancel(request)
                raise WorkerError(
                    N_("There was no answer within {seconds} s, so the request was cancelled. Try again."),
                    seconds=round(deadline_s),
                )
        if request.error is not None:
            raise request.error
        return request.result

    def cancel(self, request: Request) -> None:
        """Drop a question. What is under way cannot be interrupted from inside, so the process at it is ended."""
        with self._lock:
            if request.done.is_set():
                return
            process = request.process
            if process is None:
                self._waiting.remove(request)
            else:
                self._processes.remove(process)
                process.request = None
                process.end()
            _fail(request, N_("The request was cancelled."))
            self._hand_out()

    def close(self) -> None:
        """End the processes, and what they were asked; the next question starts another."""
        with self._lock:
            ended, self._processes = self._processes, []
            asked, self._waiting = [*(process.request for process in ended), *self._waiting], []
            for process in ended:
                process.request = None
                process.end()
            for request in filter(None, asked):
                _fail(request, DIED)

    @property
    def pid(self) -> int | None:
        """Of the process that has been there the longest; None where there is none."""
        return next(iter(self.pids), None)

    @property
    def pids(self) -> list[int]:
        with self._lock:
            return [process.popen.pid for process in self._processes if process.is_alive]

    def _hand_out(self) -> None:
        """Give what waits to idle processes, and start new ones up to `MOST`. Under the lock."""
        for request in list(self._waiting):
            process = self._idle(request.kind) or self._started(request.kind)
            if process is None:
                continue
            self._waiting.remove(request)
            process.request, request.process = request, process
            process.send({"id": request.id, "method": request.method, "params": request.params})
            if self._idle(request.kind) is None and len(self._of(request.kind)) < MOST[request.kind]:
                _after(SPARE_AFTER_S if process.has_answered else SPARE_AFTER_START_S, self._make_ready, request)

    def _idle(self, kind: Kind) -> Process | None:
        return next((p for p in self._of(kind) if p.request is None), None)

    def _of(self, kind: Kind) -> list[Process]:
        return [process for process in self._processes if process.kind == kind and process.is_alive]

    def _started(self, kind: Kind) -> Process | None:
        if len(self._of(kind)) >= MOST[kind]:
            return None
        process = Process(self._argv, kind)
        self._processes.append(process)
        threading.Thread(target=self._read, args=(process,), daemon=True).start()
        return process

    def _make_ready(self, request: Request) -> None:
        """Another process for whoever asks next, while `request` still has its own."""
        with self._lock:
            if not request.done.is_set() and self._idle(request.kind) is None:
                process = self._started(request.kind)
                if process is not None:
                    process.send({"id": 0, "method": "start", "params": {}})

    def _end_spare(self, process: Process) -> None:
        with self._lock:
            idle = [other for other in self._of(process.kind) if other.request is None]
            if process in idle and len(idle) > 1:
                self._processes.remove(process)
                process.end()

    def _read(self, process: Process) -> None:
        for message in process.messages():
            with self._lock:
                request = process.request
                if request is None or request.id != message.get("id"):
                    continue
                if "progress" in message:
                    request.progress = Message.from_json(message["progress"]["message"])
                    request.fraction = message["progress"]["fraction"]
                    continue
                process.request, process.has_answered = None, True
                if "error" in message:
                    error = Message.from_json(message["error"])
                    request.error = WorkerError(error.template, **error.values)
                    if "untrainable" in message:  # no failure of the process, but its answer
                        request.error = UntrainableError(error.template, about=message["untrainable"], **error.values)
                else:
                    request.result = message["result"]
                request.done.set()
                self._hand_out()
                if sum(other.request is None for other in self._of(process.kind)) > 1:
                    _after(SPARE_FOR_S, self._end_spare, process)
        self._has_ended(process)

    def _has_ended(self, process: Process) -> None:
        with self._lock:
            if process in self._processes:
                self._processes.remove(process)
            request, process.request = process.request, None
            if request is not None:
                _fail(request, DIED)
            self._hand_out()


def _fail(request: Request, template: str) -> None:
    request.error = WorkerError(template)
    request.done.set()


def _after(seconds: float, do: Callable[[Any], None], argument: Any) -> None:
    timer = threading.Timer(seconds, do, [argument])
    timer.daemon = True
    timer.start()
