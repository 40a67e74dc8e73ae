"""Files of a run as dicts: goes when its last callers take the types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_backend.atomic import write_json
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import AttemptStatus, Exit
from lora_backend.runs.record.locked_files import append_jsonl, read_json, read_jsonl
from lora_backend.runs.record.logs import read_log
from lora_backend.runs.record.process_identity import ProcessIdentity
from lora_backend.typed_json import Part

if TYPE_CHECKING:
    from lora_backend.runs.record.run_store import RunStore


class OldAccess:
    """Dicts in, dicts out."""

    @classmethod
    def create(cls, root: Path, *, path: Path | None = None, attempt: Any = None, **new: Any) -> RunStore:
        from lora_backend.runs.record.run_store import new_run_id
        from lora_backend.runs.record.transitions import NewRun, create

        return create(
            path or root / new_run_id(), NewRun(attempt=None if attempt is None else Attempt.read(attempt), **new)
        )

    @property
    def _me(self) -> RunStore:
        return self  # type: ignore[return-value]

    def read_run(self) -> dict[str, Any]:
        return self._me.read_record().to_json()

    def status(self) -> dict[str, Any]:
        if read_json(self._me.status_json) is None:
            return {}
        found = self._me.read_status().to_json()
        return {**found, **found.pop("attempt")}

    def attempt(self) -> dict[str, Any]:
        found = self._me.read_attempt()
        return found.to_json() if found.number else {}

    def metrics(self) -> list[dict[str, Any]]:
        return list(read_jsonl(self._me.metrics_jsonl))

    def answers(self) -> list[dict[str, Any]]:
        return list(read_jsonl(self._me.answers_jsonl))

    def log_tail(self, max_bytes: int = 32_000) -> str:
        return read_log(self._me.train_log, max_bytes=max_bytes).text

    def last_lines(self) -> list[str]:
        found = self._me.read_exit()
        return found.log if found else []

    def write_status(self, **changes: Any) -> None:
        with self._me.changing_status() as status:
            for name, value in changes.items():
                setattr(status.attempt if name in AttemptStatus.model_fields else status, name, value)

    def write_supervisor(self, started: ProcessIdentity, num_ends: int) -> None:
        from lora_backend.runs.record.transitions import name_supervisor

        name_supervisor(self._me, started, num_ends)

    def begin_training(self, **changes: Any) -> None:
        from lora_backend.runs.record.transitions import begin_training

        begin_training(self._me)

    def refuse_another_trainer(self) -> None:
        from lora_backend.runs.record.transitions import refuse_another_trainer

        refuse_another_trainer(self._me)

    def move(self, old: Any, new: Any, *, number: int | None = None, **changes: Any) -> None:
        from lora_backend.runs.record.transitions import move

        move(self._me, old, new, number=number)

    def begin_attempt(self, state: Any, *, after: int | None = None, **facts: Any) -> int:
        from lora_backend.runs.record.transitions import begin_attempt

        return begin_attempt(self._me, state, Attempt.read(facts), after=after)

    def new_attempt(self, **facts: Any) -> int:
        from lora_backend.runs.record.transitions import add_attempt

        return add_attempt(self._me, Attempt.read(facts))

    def replan(self, *, after: int | None = None, **facts: Any) -> int:
        from lora_backend.runs.record.transitions import replan

        return replan(self._me, Attempt.read(facts), after=after)

    def write_attempt(self, **changes: Any) -> None:
        with self._me.changing_attempt() as attempt:
            number = attempt.number
        path = self._me.attempt_json(number)
        raw = {name: value.to_json() if isinstance(value, Part) else value for name, value in changes.items()}
        write_json(path, (read_json(path) or {}) | raw)

    def append_metrics(self, row: dict[str, Any]) -> None:
        append_jsonl(self._me.metrics_jsonl, row)

    def write_exit(self, state: Any, *, num_ends: int | None = None, **how: Any) -> None:
        from lora_backend.runs.record.transitions import end

        end(self._me, Exit(state=state, **how), num_ends=num_ends)

    def write_exit_of_start(self, num_ends: int, state: Any, **how: Any) -> None:
        self.write_exit(state, num_ends=num_ends, **how)

    @property
    def stop_requested(self) -> bool:
        return self._me.stop_request.exists()

    def request_stop(self, actor: str | None = None, deadline_s: float = 120.0) -> None:
        from lora_backend.runs.record.transitions import request_stop

        request_stop(self._me, actor, deadline_s)

    def request_save(self, actor: str | None = None) -> None:
        from lora_backend.runs.record.transitions import request_save

        request_save(self._me, actor)
