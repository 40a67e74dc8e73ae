"""Ray Jobs, by the HTTP API of Ray's dashboard: nothing of Ray has to be installed on this machine.

https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from lora_backend.clusters.cluster import ClusterError, ClusterSilentError, Look, Task
from lora_backend.clusters.cluster_documents import Setting
from lora_backend.clusters.job_line import job_line
from lora_backend.i18n import N_, Message

ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables that name the dashboard, the first that is an http address; both are Ray's own."""
TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - the variable's name
SETTINGS = {"num_gpus": float, "num_cpus": float, "memory_gb": float}
"""What may be asked of Ray, and of what type."""
WITHIN_S = 20.0
PHASES = {"PENDING": "pending", "RUNNING": "running", "STOPPED": "over", "SUCCEEDED": "over", "FAILED": "over"}
WAITS = (
    ("resources", N_("it is waiting for a machine with enough free CPUs, GPUs and memory; Ray drops it after 15 minutes, or after RAY_JOB_START_TIMEOUT_SECONDS if that is set on the head node")),
)  # fmt: skip
"""What stands in Ray's message → what it means."""


def ray_address(environment: Mapping[str, str]) -> str | None:
    """The dashboard that the environment names."""
    named = (environment.get(name, "") for name in ADDRESSES)
    return next((address for address in named if is_address(address)), None)


def is_address(text: str) -> bool:
    """Whether it can be that of a dashboard."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


class Ray:
    """The cluster whose dashboard has that address."""

    name = "Ray"
    cancels_late: Message | None = Message(
        N_(
            "Ray cannot cancel a job that has not started. If it starts, it ends at once without training anything. Otherwise Ray drops it 15 minutes after it was submitted, or after RAY_JOB_START_TIMEOUT_SECONDS if that is set on the head node."
        )
    )

    def __init__(self, address: str | None, parameters: Mapping[str, Setting], token: str | None = None) -> None:
        self._address = (address or "").rstrip("/")
        self._parameters = {"num_gpus": 1, **parameters}
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def check(self) -> None:
        if not is_address(self._address):
            raise ClusterError(
                N_(
                    "Ray needs the address of its dashboard. Set it with `--address http://HEAD:8265` or RAY_API_SERVER_ADDRESS."
                )
            )
        self._ask("GET", "version")

    def submit(self, task: Task) -> str:
        asked = self._parameters
        body: dict[str, Any] = {
            "entrypoint": job_line(task),
            "submission_id": task.name,
            "metadata": {"flightdeck_run": task.folder.name},
            "entrypoint_num_gpus": asked["num_gpus"],
            "entrypoint_num_cpus": asked.get("num_cpus", 1),
        }
        if memory := asked.get("memory_gb"):
            body["entrypoint_memory"] = int(float(memory) * 1e9)
        answer = self._ask("POST", "jobs/", body)
        return str((answer or {}).get("submission_id", task.name))

    def find(self, name: str) -> str | None:
        return name if self._ask("GET", f"jobs/{quote(name, safe='')}") else None

    def look(self, job_id: str) -> Look | None:
        found = self._ask("GET", f"jobs/{quote(job_id, safe='')}")
        if found is None:
            return None
        state, said = str(found.get("status")), found.get("message")
        phase: Any = PHASES.get(state, "running")
        reason = _one_line(str(said)) if said else None
        meaning = next((Message(means) for part, means in WAITS if reason and part in reason), None)
        code = found.get("driver_exit_code")
        host = urlsplit(str(found.get("driver_agent_http_address") or "")).hostname
        return Look(
            phase,
            state,
            reason if phase != "running" else None,
            meaning if phase == "pending" else None,
            host,
            code if isinstance(code, int) else None,
        )

    def cancel(self, job_id: str) -> None:
        self._ask("POST", f"jobs/{quote(job_id, safe='')}/stop")

    def kill(self, job_id: str) -> None:
        """Ray has no other way: three seconds after a stop it kills what is left."""
        self.cancel(job_id)

    def words(self, job_id: str, folder: Path) -> str:
        try:
            found = self._ask("GET", f"jobs/{quote(job_id, safe='')}/logs")
        except ClusterError:
            return ""
        return str((found or {}).get("logs") or "")[-16_000:].strip()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The answer; None where there is no such job."""
        import httpx2  # a tenth of a second, and no other supervisor needs it

        try:
            answer = httpx2.request(
                method, f"{self._address}/api/{path}", json=body, headers=self._headers, timeout=WITHIN_S
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ClusterSilentError(
                N_(
                    "Ray does not answer at {address}: {said}. Check the address, and that the Ray dashboard is running."
                ),
                address=self._address,
                said=_one_line(str(error)).rstrip(".") or type(error).__name__,
            ) from error
        if answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):
            raise ClusterError(
                N_("Ray at {address} denied access. Set RAY_AUTH_TOKEN to a token for the cluster."),
                address=self._address,
            )
        if answer.status_code >= 500 and method == "GET":
            raise ClusterSilentError(
                N_(
                    "Ray does not answer at {address}: {said}. Check the address, and that the Ray dashboard is running."
                ),
                address=self._address,
                said=f"{answer.status_code} {_one_line(answer.text).rstrip('.')}",
            )
        if answer.status_code >= 400:
            raise ClusterError(
                N_("Ray refused the job: {said}. Change the job settings, then start it again."),
                said=_one_line(answer.text).rstrip("."),
            )
        try:
            found = answer.json()
        except ValueError as error:
            raise ClusterSilentError(
                N_("The server at {address} is not a Ray dashboard. Check the address."), address=self._address
            ) from error
        return found if isinstance(found, dict) else {}


def _one_line(text: str) -> str:
    """The last line of an error, for what comes before is its traceback."""
    lines = [line.strip() for line in text.replace("\\n", "\n").splitlines() if line.strip()]
    first = lines[-1] if lines and lines[0].startswith("Traceback") else " ".join(lines)
    return re.sub(r"\s+", " ", first)[:400]
