"""In the place of the torch process: answers questions at once, or when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_backend.errors import FlightdeckError, WorkerError
from lora_backend.worker_client import Request

Answers = Mapping[str, Callable[[dict[str, Any]], Any]]


class StubWorker:
    """`answers`: method → what it answers to its parameters; it may raise."""

    def __init__(self, answers: Answers, *, waits: bool = False) -> None:
        self.answers, self.waits = dict(answers), waits
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.cancelled: list[Request] = []
        self.requests: list[Request] = []

    def submit(self, method: str, params: dict[str, Any]) -> Request:
        self.asked.append((method, params))
        request = Request(len(self.asked), method, params)
        self.requests.append(request)
        if not self.waits:
            self.finish(request)
        return request

    def finish(self, request: Request) -> None:
        try:
            request.result = self.answers[request.method](request.params)
        except FlightdeckError as error:
            request.error = WorkerError(error.message.template, **error.message.values)
        request.done.set()

    def cancel(self, request: Request) -> None:
        self.cancelled.append(request)

    def asked_of(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in self.asked if name == method]
