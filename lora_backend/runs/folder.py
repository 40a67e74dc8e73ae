"""A run is a folder: what is in it, who writes it, and the state that it is in.

`run.json` never changes; `status.json` is replaced as a whole; `metrics.jsonl` grows; `exit.json` ends it.
"""

from __future__ import annotations

import getpass
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from lora_backend.atomic import write_atomic, write_json
from lora_backend.errors import RunError
from lora_backend.i18n import N_, Message
from lora_backend.runs.process import ProcessIdentity, is_alive

ENDED = frozenset({"stopped", "finished", "failed", "lost"})
START_GRACE_S = 30.0
"""How long a run may be without any process after it was made, before it counts as lost."""
RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,79}")
RECORDED_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "streamlit")


@dataclass(frozen=True)
class RunState:
    """A run's state as it is now, judged by its files and its processes."""

    state: str
    stage: str | None = None
    """What the trainer is at: preparing, loading, data, training, saving, answering."""
    step: int = 0
    total_steps: int | None = None
    epoch: float | None = None
    eta_s: float | None = None
    fraction: float | None = None
    """How far a stage that counts no steps has come, from 0 to 1."""
    detail: Message | None = None
    """What the stage has to say of itself."""
    started_at: float | None = None
    """Seconds since the epoch, as all times here."""
    ended_at: float | None = None
    cause: str | None = None
    """Why it failed, as a code."""
    message: Message | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class RunFolder:
    """One run's folder. Reading never raises for a file that is absent or half gone; writing does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_json = path / "run.json"
        self.status_json = path / "status.json"
        self.exit_json = path / "exit.json"
        self.metrics_jsonl = path / "metrics.jsonl"
        self.answers_jsonl = path / "answers.jsonl"
        self.rank_report_json = path / "rank_report.json"
        self.config_yaml = path / "config.yaml"
        self.train_log = path / "train.log"
        self.stop_request = path / "stop.request"
        self.checkpoints = path / "checkpoints"
        self.adapter = path / "adapter"
        self.attempts = path / "attempts"

    @property
    def id(self) -> str:
        return self.path.name

    # ------------------------------------------------------------------------------------ making

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        config: dict[str, Any],
        config_text: str,
        argv: list[str] | None,
        actor: str | None = None,
        data_sha256: str | None = None,
        path: Path | None = None,
        name: str | None = None,
    ) -> RunFolder:
        """Make the folder of a new run below `root`, or at `path`. `RunError` where a run already stands there."""
        folder = cls(path or root / new_run_id())
        folder.path.mkdir(parents=True, exist_ok=True)
        if folder.run_json.exists():
            raise RunError(N_("There is already a run in {path}. Name another folder."), path=str(folder.path))
        write_atomic(folder.config_yaml, config_text)
        folder.write_status(state="starting", created_at=time.time())
        write_json(
            folder.run_json,
            {
                "id": folder.id,
                "name": name,
                "created_at": time.time(),
                "actor": actor or system_user(),
                "config": config,
                "argv": argv,
                "data_sha256": data_sha256,
                "versions": {name: _version(name) for name in RECORDED_PACKAGES},
            },
        )
        return folder

    # ----------------------------------------------------------------------------------- reading

    def read_run(self) -> dict[str, Any]:
        """`run.json`. Raises `RunError` where the folder is no run (any more)."""
        run = _read_json(self.run_json)
        if run is None:
            raise RunError(N_("The run {id} is not there; its folder may have been deleted."), id=self.id)
        return run

    def state(self) -> RunState:
        """What is true now: an ended run says how; one without a living process is lost."""
        status = self.status()
        ended = _read_json(self.exit_json)
        if ended:
            return _run_state(status | ended, str(ended["state"]))
        processes = [ProcessIdentity.from_json(status[who]) for who in ("trainer", "supervisor") if status.get(who)]
        if any(map(is_alive, processes)):
            return _run_state(status, "stopping" if self.stop_requested else str(status.get("state", "starting")))
        if not processes and time.time() - float(status.get("created_at", 0)) < START_GRACE_S:
            return _run_state(status, "starting")
        return _run_state(status, "lost")

    def status(self) -> dict[str, Any]:
        """`status.json` as it was last written, whatever has happened to the processes since."""
        return _read_json(self.status_json) or {}

    def attempt(self) -> dict[str, Any]:
        """The newest of `attempts/`: plan, devices, fallback and measured memory of one start; empty without any."""
        numbers = self._attempt_numbers()
        return (_read_json(self.attempts / f"{numbers[-1]}.json") or {}) if numbers else {}

    def _attempt_numbers(self) -> list[int]:
        if not self.attempts.is_dir():
            return []
        return sorted(int(path.stem) for path in self.attempts.glob("*.json") if path.stem.isdigit())

    def metrics(self) -> list[dict[str, Any]]:
        """All points of the curves, in order; a last line that is half written is left out."""
        return list(_read_jsonl(self.metrics_jsonl))

    def answers(self) -> list[dict[str, Any]]:
        return list(_read_jsonl(self.answers_jsonl))

    def rank_report(self) -> dict[str, Any] | None:
        return _read_json(self.rank_report_json)

    def log_tail(self, max_bytes: int = 32_000) -> str:
        """The end of the log, from a whole line on."""
        try:
            with self.train_log.open("rb") as file:
                size_bytes = file.seek(0, 2)
                file.seek(max(0, size_bytes - max_bytes))
                tail = file.read(max_bytes)
        except OSError:
            return ""
        if size_bytes > max_bytes:
            tail = tail.partition(b"\n")[2]
        return tail.decode("utf-8", errors="replace")

    # ----------------------------------------------------------------------------------- writing

    def write_status(self, **changes: Any) -> None:
        """Change some keys of `status.json`; None takes a key out."""
        status = self.status() | changes | {"updated_at": time.time()}
        write_json(self.status_json, {key: value for key, value in status.items() if value is not None})

    def new_attempt(self, **facts: Any) -> int:
        """Write down another start of the run; returns its number, counted from 1."""
        number = max(self._attempt_numbers(), default=0) + 1
        self.attempts.mkdir(exist_ok=True)
        write_json(self.attempts / f"{number}.json", {"number": number, "time": time.time(), **facts})
        return number

    def write_attempt(self, **changes: Any) -> None:
        """Add to what is known of the newest start; the first where there is none yet."""
        number = max(self._attempt_numbers(), default=0) or self.new_attempt()
        path = self.attempts / f"{number}.json"
        write_json(path, (_read_json(path) or {"number": number}) | changes)

    def append_metrics(self, row: dict[str, Any]) -> None:
        _append_jsonl(self.metrics_jsonl, row)

    def write_answers(self, rows: list[dict[str, Any]]) -> None:
        write_atomic(
            self.answers_jsonl, "".join(json.dumps({"format": 1, **row}, ensure_ascii=False) + "\n" for row in rows)
        )

    def write_rank_report(self, report: dict[str, Any]) -> None:
        write_json(self.rank_report_json, report)

    def write_exit(self, state: str, *, cause: str | None = None, message: Message | None = None, **more: Any) -> None:
        """End the run. The first end stands; a second is not written."""
        if self.exit_json.exists():
            return
        ended = {"state": state, "ended_at": time.time(), "cause": cause, **more}
        write_json(self.exit_json, ended | {"message": message.to_json() if message else None})

    @property
    def stop_requested(self) -> bool:
        return self.stop_request.exists()

    def request_stop(self, actor: str | None = None) -> None:
        """Ask the trainer to save a checkpoint and end at its next step."""
        self.read_run()
        write_json(self.stop_request, {"actor": actor or system_user(), "time": time.time()})


def new_run_id() -> str:
    """Sorts by time, and two in one second differ."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def open_run(root: Path, run_id: str) -> RunFolder:
    """The run `run_id` below `root`. Raises `RunError` for an id that is none, or that is not there."""
    if not RUN_ID.fullmatch(run_id):
        raise RunError(N_("{id} is not the id of a run."), id=run_id[:80])
    folder = RunFolder(root / run_id)
    folder.read_run()
    return folder


def list_runs(root: Path) -> list[RunFolder]:
    """All runs below `root`, the newest first."""
    if not root.is_dir():
        return []
    return [RunFolder(path) for path in sorted(root.iterdir(), reverse=True) if (path / "run.json").is_file()]


def remove_checkpoint(path: Path) -> None:
    """Take away a checkpoint that was not written whole."""
    shutil.rmtree(path, ignore_errors=True)


def system_user() -> str:
    """Who acts, as the operating system says."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _run_state(data: dict[str, Any], state: str) -> RunState:
    plain: dict[str, Any] = {
        name: data.get(name)
        for name in ("stage", "total_steps", "epoch", "eta_s", "fraction", "started_at", "ended_at", "cause")
    }
    sentences: dict[str, Any] = {
        name: Message.from_json(data[name]) for name in ("detail", "message") if data.get(name)
    }
    return RunState(state, step=int(data.get("step", 0)), **plain, **sentences)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # blank, or being written
            continue
        if isinstance(row, dict):
            yield row


def _append_jsonl(path: Path, row: dict[str, Any]) -> None:
    with path.open("ab+") as file:
        line = json.dumps({"format": 1, **row}) + "\n"
        if file.tell():  # behind half a line that a crash left, on a line of its own
            file.seek(-1, 2)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(line.encode("utf-8"))
