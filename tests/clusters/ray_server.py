"""A server that speaks Ray's job API and runs what is submitted on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PENDING = "Job has not started yet. It may be waiting for resources (CPUs, GPUs, memory, custom resources) to become available. It may be waiting for the runtime environment to be set up."
"""As Ray 2.60 says it."""

GIVEN_UP = "Job supervisor actor failed to start within 900.0 seconds. This timeout can be configured by setting the environment variable RAY_JOB_START_TIMEOUT_SECONDS."
"""As it says it of a job that has waited for too long."""


class RayServer:
    """A dashboard; what it is asked to be is set on it."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.holds = False
        """Jobs wait."""
        self.num_deaf = 0
        """So many stops say True and stop nothing."""
        self.is_down = False
        self.refuses: str | None = None
        self.stops: list[str] = []
        self.tokens: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("GET")

            def do_POST(self) -> None:
                self._answer("POST")

            def log_message(self, *_: object) -> None:
                """Nothing."""

            def _answer(self, method: str) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.tokens.append(self.headers.get("Authorization"))
                code, found = server.answer(method, self.path, json.loads(body) if body else {})
                data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.jobs.values():
            self._signal(job, signal.SIGKILL)
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """What Ray says to a request."""
        if self.is_down:
            return 503, "no head node"
        match [part for part in path.split("/") if part][1:]:
            case ["version"]:
                return 200, {"version": "4", "ray_version": "2.60.0"}
            case ["jobs"] if method == "POST":
                return self._submit(body)
            case ["jobs", job_id] if job_id in self.jobs:
                return 200, self.info(job_id)
            case ["jobs", job_id, "logs"] if job_id in self.jobs:
                return 200, {"logs": self.jobs[job_id]["logs"]}
            case ["jobs", job_id, "stop"] if job_id in self.jobs:
                return self._stop(job_id)
        return 404, "Job does not exist"

    def _submit(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.refuses is not None:
            return 500, f"Traceback (most recent call last):\n  File x\nValueError: {self.refuses}"
        job_id = body["submission_id"]
        self.jobs[job_id] = {"asked": body, "process": None, "ended": None, "logs": ""}
        if not self.holds:
            self.start(job_id)
        return 200, {"job_id": job_id, "submission_id": job_id}

    def start(self, job_id: str) -> None:
        """Let a job begin that waits; a stop that came before is done now, as Ray does it."""
        job = self.jobs[job_id]
        job["process"] = subprocess.Popen(
            job["asked"]["entrypoint"], shell=True, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )  # fmt: skip
        if job["ended"] == "STOPPED":
            self._signal(job, signal.SIGTERM)

    def give_up(self, job_id: str) -> None:
        """What becomes of a job that has waited for 15 minutes."""
        self.jobs[job_id]["ended"] = "FAILED"

    def _stop(self, job_id: str) -> tuple[int, Any]:
        self.stops.append(job_id)
        if len(self.stops) > self.num_deaf:
            job = self.jobs[job_id]
            job["ended"] = "STOPPED"
            self._signal(job, signal.SIGTERM)
        return 200, {"stopped": True}

    def info(self, job_id: str) -> dict[str, Any]:
        """A job as Ray tells of it."""
        job = self.jobs[job_id]
        process, about = (
            job["process"],
            {"submission_id": job_id, "driver_exit_code": None, "driver_agent_http_address": None},
        )
        if process is None:
            is_given_up = job["ended"] == "FAILED"  # a stop changes nothing
            state, said = ("FAILED", GIVEN_UP) if is_given_up else ("PENDING", PENDING)
            return {**about, "status": state, "message": said}
        about["driver_agent_http_address"] = "http://10.0.0.7:52365"
        code = process.poll()
        if code is None:
            return {**about, "status": "RUNNING", "message": "Job is currently running."}
        if job["ended"]:
            return {**about, "status": "STOPPED", "message": "Job was intentionally stopped."}
        if code == 0:
            return {**about, "status": "SUCCEEDED", "message": "Job finished successfully.", "driver_exit_code": 0}
        said = (
            f"Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):\n"
        )
        return {**about, "status": "FAILED", "message": said, "driver_exit_code": code}

    @staticmethod
    def _signal(job: dict[str, Any], number: int) -> None:
        if job["process"] is not None and job["process"].poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(job["process"].pid, number)
