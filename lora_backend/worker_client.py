"""Ask the torch process: it is started at the first question, and again after it died."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lora_backend.errors import WorkerError
from lora_backend.i18n import N_, Message
from lora_backend.settings import child_environment


@dataclass
class Request:
    """One question under way; read by whoever waits for it, written by the thread that reads the answers."""

    id: int
    method: str
    params: dict[str, Any]
    process: subprocess.Popen[str]
    done: threading.Event = field(default_factory=threading.Event)
    progress: Message | None = None
    fraction: float = 0.0
    result: Any = None
    error: WorkerError | None = None


class WorkerClient:
    """One torch process, shared by all sessions of a dashboard. Its methods may be called from any thread."""

    def __init__(self, argv: list[str] | None = None) -> None:
        self._argv = argv or [sys.executable, "-m", "lora_backend.worker"]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._requests: dict[int, Request] = {}
        self._last_id = 0

    def submit(self, method: str, params: dict[str, Any]) -> Request:
        """Put a question; watch `progress` and `done` of what comes back."""
        with self._lock:
            self._last_id += 1
            request = Request(self._last_id, method, params, self._running())
            self._requests[request.id] = request
            self._write(request)
        return request

    def ask(
        self,
        method: str,
        params: dict[str, Any],
        deadline_s: float = 600.0,
        on_progress: Callable[[Message, float], None] = lambda *_: None,
    ) -> Any:
        """Put a question and wait for its answer. Raises `WorkerError` after `deadline_s`, or when the process dies."""
        request, waited_s, said = self.submit(method, params), 0.0, None
        while not request.done.wait(0.2):
            waited_s += 0.2
            if request.progress is not None and request.progress != said:
                said = request.progress
                on_progress(said, request.fraction)
            if waited_s >= deadline_s:
                self.cancel(request)
                raise WorkerError(
                    N_("There was no answer within {seconds} s; the request was dropped. Try again."),
                    seconds=round(deadline_s),
                )
        if request.error is not None:
            raise request.error
        return request.result

    def cancel(self, request: Request) -> None:
        """Drop a question. What it loads cannot be interrupted from inside, so the process is ended if it is at it.

        The questions of others are then put again, to the next process.
        """
        with self._lock:
            if self._requests.pop(request.id, None) is None:  # answered
                return
            others = [other for other in self._requests.values() if other.process is request.process]
            is_under_way = all(request.id < other.id for other in others)  # they are answered in their order
            if is_under_way:
                self._process = None
                for other in others:
                    other.process = self._running()
                    self._write(other)
        if is_under_way:
            request.process.kill()
            request.process.wait()
        request.error = WorkerError(N_("The question was dropped."))
        request.done.set()

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def _write(self, request: Request) -> None:
        line = json.dumps({"id": request.id, "method": request.method, "params": request.params}) + "\n"
        try:
            assert request.process.stdin is not None
            request.process.stdin.write(line)
            request.process.stdin.flush()
        except OSError:  # it died just now; the reader thread says so to all who wait
            pass

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            # Pipes tie the two together: when the dashboard goes, the worker's input ends and so does the worker.
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=child_environment(),
            )
            threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        return self._process

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                message = json.loads(line)
            except ValueError:  # it died in the middle of a line
                continue
            request = self._requests.get(message.get("id"))
            if request is None or request.process is not process:
                continue
            if "progress" in message:
                request.progress = Message.from_json(message["progress"]["message"])
                request.fraction = message["progress"]["fraction"]
                continue
            if self._requests.pop(request.id, None) is None:  # dropped just now
                continue
            if "error" in message:
                error = Message.from_json(message["error"])
                request.error = WorkerError(error.template, **error.values)
            else:
                request.result = message["result"]
            request.done.set()
        process.wait()
        self._fail_all(process)

    def _fail_all(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            waiting = [request for request in self._requests.values() if request.process is process]
            for request in waiting:
                del self._requests[request.id]
        for request in waiting:
            request.error = WorkerError(
                N_("The process that loads models ended before it answered. It starts again with the next request.")
            )
            request.done.set()
