"""A run is a folder: what is in it, who writes it, and the state that it is in.

`run.json` never changes; `status.json` is replaced as a whole; `metrics.jsonl` grows; `exit.json` ends it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from lora_backend.atomic import filling, write_atomic, write_json
from lora_backend.bounded import read_text
from lora_backend.errors import RunError
from lora_backend.i18n import N_, Message
from lora_backend.os_errors import in_words
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import KINDS, STOP_DEADLINE_S, Answer, Exit, RunRecord, Status, StopRequest
from lora_backend.runs.record.failures import failure
from lora_backend.runs.record.forms import is_part
from lora_backend.runs.record.locked_files import (
    MAX_REPORT_BYTES,
    MAX_STATE_BYTES,
    append_jsonl,
    is_newer,
    lock_file,
    read_json,
    read_jsonl,
)
from lora_backend.runs.record.logs import read_log
from lora_backend.runs.record.process_identity import ProcessIdentity, identify, is_alive
from lora_backend.runs.record.provenance import provenance, system_user
from lora_backend.runs.record.seal import seal_of
from lora_backend.runs.record.states import ENDED, RunState, StateError, check_move, identity_in, judge, launch_moment
from lora_backend.runs.record.unlinked import refuse_links
from lora_backend.symlinks import is_unlinked_file
from lora_backend.typed_json import Document
from lora_backend.verification.rank_documents import RankReport

__all__ = ["ENDED", "RUN_ID", "STOP_DEADLINE_S", "RunFolder", "RunState", "list_runs", "new_run_id", "open_run"]
RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,79}")
D = TypeVar("D", bound=Document)
LEAST_ROOM_BYTES = 64 * 1024
"""A disk with less has no room for the few lines that say how a run ended."""
OF_ONE_ATTEMPT = (
    "child",
    "trainer",
    "supervisor",
    "launcher",
    "outcome",
    "outcome_cause",
    "outcome_message",
    "failure",
    "stage",
    "eta_s",
    "fraction",
    "detail",
    "queue",
)
"""Keys of `status.json` that mean nothing to the next attempt."""
ATTEMPT_PARTS = ("plan", "measured", "expected", "fallback", "note")
"""Objects in an attempt's file, where they are there."""


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
        self.save_request = path / "save.request"
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
        state: str = "starting",
        attempt: dict[str, Any] | None = None,
    ) -> RunFolder:
        """Make the folder of a new run below `root`, or at `path`. `RunError` where a run already stands there.

        `attempt` is what is known of its first start.
        """
        folder = cls(path or root / new_run_id())
        refuse_links(folder.path)
        made_by = provenance()  # before the lock: git may take its time
        with filling(folder.path), folder.writing():
            if folder.run_json.exists():
                raise RunError(N_("There is already a run in {path}. Name another folder."), path=str(folder.path))
            write_atomic(folder.config_yaml, config_text)
            folder._write_status({"state": state, "created_at": time.time(), "launched": launch_moment()})
            if attempt is not None:
                folder.new_attempt(**attempt)
            write_json(  # last: from here on whoever looks may queue it and start it on what its attempt names
                folder.run_json,
                {
                    "id": folder.id,
                    "name": name,
                    "created_at": time.time(),
                    "actor": actor or system_user(),
                    "config": config,
                    "argv": argv,
                    "argv_seal": seal_of(folder.path, argv),
                    "data_sha256": data_sha256,
                    **made_by,
                },
            )
        return folder

    # ----------------------------------------------------------------------------------- reading

    def read_run(self) -> dict[str, Any]:
        """`run.json`. Raises `RunError` where the folder is no run (any more), or one of a newer version."""
        run = read_json(self.run_json)
        if run is None:
            if self.path.is_symlink() or self.run_json.is_symlink():
                refuse_links(self.path)
            raise RunError(N_("The run {id} is not there; its folder may have been deleted."), id=self.id)
        self._refuse_newer(run)
        if not isinstance(run.get("config"), dict):
            raise RunError(N_("The run.json of run {id} holds no config, so it cannot be shown. Copy the run again."), id=self.id)  # fmt: skip
        return run

    def read_record(self) -> RunRecord:
        """`run.json`. Raises `RunError` where the folder is no run (any more), or one of a newer version."""
        found = read_json(self.run_json)
        if found is None:
            if self.path.is_symlink() or self.run_json.is_symlink():
                refuse_links(self.path)
            raise RunError(N_("The run {id} is not there; its folder may have been deleted."), id=self.id)
        if RunRecord.is_newer(found) or found.get("kind", KINDS[0]) not in KINDS:
            raise self._newer()
        try:
            return RunRecord.read(found)
        except ValueError as error:
            raise RunError(N_("The run.json of run {id} holds no config, so it cannot be shown. Copy the run again."), id=self.id) from error  # fmt: skip

    def read_status(self) -> Status:
        """How the run stood when that was last written; empty where nothing can be read."""
        return self._read(self.status_json, Status) or Status()

    def read_exit(self) -> Exit | None:
        """How it ended; None for a run that has not."""
        return self._read(self.exit_json, Exit)

    def read_attempt(self, number: int | None = None) -> Attempt:
        """A start of the run, by default the newest; empty, and number 0, without any."""
        newest = self._newest_number() if number is None else number
        found = self._read(self.attempts / f"{newest}.json", Attempt)
        if found is None:
            return Attempt()
        found.number = newest  # by the file's name: names of other files are made of it
        return found

    def read_attempts(self) -> list[Attempt]:
        """Every start that can be read, in order."""
        numbers = sorted(int(path.stem) for path in self.attempts.glob("*.json") if path.stem.isdecimal())
        return [attempt for number in numbers if (attempt := self.read_attempt(number)).number]

    def read_rank_report(self) -> RankReport | None:
        """The rank check; None before it, or where the file is not whole."""
        found = read_json(self.rank_report_json, MAX_REPORT_BYTES)
        report = None if found is None else _as(RankReport, found)
        # What was found of the saved adapter decides, so a report of which that cannot be read decides nothing.
        return None if report is None or (report.saved is None and (found or {}).get("saved")) else report

    def read_answers(self) -> list[Answer]:
        """The config's questions, answered; lines that are not whole are left out."""
        return [answer for row in read_jsonl(self.answers_jsonl) if (answer := _as(Answer, row)) is not None]

    def read_stop_request(self) -> StopRequest | None:
        """Who asked the run to stop, and when; None where nobody has."""
        return self._read(self.stop_request, StopRequest)

    def _read(self, path: Path, kind: type[D]) -> D | None:
        found = read_json(path)
        return None if found is None else _as(kind, found)

    def _newer(self) -> RunError:
        return RunError(N_("The run {id} was written by a newer version of this program. Update, then open it again."), id=self.id)  # fmt: skip

    def config_text(self) -> str | None:
        """The config as it was written; None where the file is gone, or is a link, or no text."""
        try:
            return read_text(self.config_yaml, MAX_STATE_BYTES, follow=False)
        except (OSError, UnicodeDecodeError):
            return None

    def state(self) -> RunState:
        """What is true now. Reads only; `recovery.recover` also sees to it that somebody watches the trainer."""
        return judge(
            self.status(), read_json(self.exit_json), stop_requested=self.stop_requested, disk_is_full=self._is_full()
        )

    def _is_full(self) -> bool:
        try:
            return shutil.disk_usage(self.path).free < LEAST_ROOM_BYTES
        except OSError:
            return False

    def status(self) -> dict[str, Any]:
        """`status.json` as it was last written, whatever has happened to the processes since."""
        return read_json(self.status_json) or {}

    def attempt(self) -> dict[str, Any]:
        """The newest of `attempts/`: plan, devices, fallback and measured memory of one start; empty without any."""
        number = self._newest_number()
        attempt = read_json(self.attempts / f"{number}.json") or {}
        if attempt:  # by the file's name: names of other files are made of it
            attempt["number"] = number
        return {key: value for key, value in attempt.items() if key not in ATTEMPT_PARTS or is_part(key, value)}

    def num_ends(self) -> int:
        """How often the run has ended and was started anew."""
        return len(list(self.attempts.glob("*.exit.json")))

    def _newest_number(self) -> int:
        """Of the starts, counted from 1; 0 without any."""
        return max((int(path.stem) for path in self.attempts.glob("*.json") if path.stem.isdecimal()), default=0)

    def metrics(self) -> list[dict[str, Any]]:
        """All points of the curves, in order; a last line that is half written is left out."""
        return list(read_jsonl(self.metrics_jsonl))

    def answers(self) -> list[dict[str, Any]]:
        return list(read_jsonl(self.answers_jsonl))

    def log_tail(self, max_bytes: int = 32_000) -> str:
        """The end of the log, from a whole line on."""
        return read_log(self.train_log, max_bytes=max_bytes).text

    def last_lines(self) -> list[str]:
        """The log's last lines as they were when the run failed, kept in `exit.json`."""
        lines = (read_json(self.exit_json) or {}).get("log")
        return [str(line) for line in lines] if isinstance(lines, list) else []

    # ----------------------------------------------------------------------------------- writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Reading and writing back as one: launcher, supervisor and trainer all change these files. Not to be nested."""
        with lock_file(self.path / "status.lock"):
            yield

    def write_status(self, **changes: Any) -> None:
        """Change some keys of `status.json`; None takes a key out. `StateError` for a state that cannot follow."""
        with self.writing():
            self._write_status(changes)

    def _write_status(self, changes: dict[str, Any], drop: tuple[str, ...] = ()) -> None:
        status = self.status()
        self._refuse_newer(status)
        if "state" in changes and status.get("state"):  # without one it was lost with half a file
            ended = read_json(self.exit_json)
            check_move(str((ended or status)["state"]), changes["state"])
        kept = {key: value for key, value in status.items() if key not in drop}
        now = {"updated_at": time.time(), "updated_boot_clock_s": launch_moment()["boot_clock_s"]}
        written = {**kept, **changes, **now}
        write_json(self.status_json, {key: value for key, value in written.items() if value is not None})

    def write_supervisor(self, started: ProcessIdentity, num_ends: int) -> None:
        """Name the supervisor that was started for a start of the run; one that is named and lives stays."""
        with self.writing():
            named = identity_in(self.status(), "supervisor")
            if self.num_ends() == num_ends and not (named and is_alive(named)):
                self._write_status({"supervisor": started.to_json()})

    def begin_training(self, **changes: Any) -> None:
        """Make this process the run's trainer. `RunError` where another is, or was started to be."""
        refuse_links(self.path)
        with self.writing():
            self.refuse_another_trainer()
            me = identify(os.getpid())
            trainer = {"trainer": me.to_json() if me else None, "started_at": time.time()}
            self._write_status({"state": "running", **trainer, **changes})

    def refuse_another_trainer(self) -> None:
        """Raise `RunError` where a living process other than this one trains the run, or was started to."""
        me, status = os.getpid(), self.status()
        # What a supervisor has started may be a launcher, below which this process trains.
        ours = {"trainer": {me}, "child": {me, *(parent.pid for parent in psutil.Process().parents())}}
        for role, pids in ours.items():
            found = identity_in(status, role)
            if found and found.pid not in pids and is_alive(found):
                raise RunError(
                    N_("The run in {path} is being trained by process {pid}. Stop it first, or name another folder."),
                    path=str(self.path),
                    pid=found.pid,
                )

    def move(self, old: str, new: str, *, number: int | None = None, **changes: Any) -> None:
        """Take a run from `old` to `new` if nobody else has: `StateError` where it is not (any more) in `old`.

        `number` is that of the attempt that the caller has looked at: `StateError` where there is another since.
        """
        with self.writing():
            ended = read_json(self.exit_json)
            found = str((ended or self.status()).get("state"))
            if found != old:
                raise StateError(N_("The run {id} is {found}, not {old}."), id=self.id, found=found, old=old)
            self._refuse_another_than(number)
            self._write_status({"state": new, "launched": launch_moment(), **changes})

    def _refuse_another_than(self, number: int | None) -> None:
        if number not in (None, self._newest_number()):
            raise StateError(N_("The run {id} was resumed or planned again in the meantime. Reload it."), id=self.id)

    def begin_attempt(self, state: str, *, after: int | None = None, **facts: Any) -> int:
        """Start a run that has ended anew: its end goes to the attempts, requests are taken back. Returns the number.

        `after` is the number of the start that the caller has looked at. `StateError` where there has been another
        since, or where the run has not ended: of two who resume it at once, one does.
        """
        with self.writing():
            # Looked at again under the lock: what was true before may be what another has just changed.
            self.read_run()  # it may have been deleted
            refuse_links(self.path)
            before = self.state()
            if not before.has_ended:
                raise StateError(N_("The run {id} has not ended, so it cannot be resumed."), id=self.id)
            self._refuse_another_than(after)
            check_move(before.state, state)
            if read_json(self.exit_json) is None:  # its processes are gone, and none was left to write it
                self._write_exit(before.state, cause=before.cause, message=before.message, remedy=before.remedy)
            number = self.new_attempt(**facts)
            for request in (self.stop_request, self.save_request):
                request.unlink(missing_ok=True)
            self._write_status({"state": state, "launched": launch_moment()}, drop=OF_ONE_ATTEMPT)
            self.exit_json.replace(self.attempts / f"{number - 1}.exit.json")  # from here on it is a run that goes on
            return number

    def new_attempt(self, **facts: Any) -> int:
        """Write down another start of the run; returns its number, counted from 1."""
        number = self._newest_number() + 1
        self.attempts.mkdir(exist_ok=True)
        write_json(self.attempts / f"{number}.json", {"number": number, "time": time.time(), **facts})
        return number

    def replan(self, *, after: int | None = None, **facts: Any) -> int:
        """Write down another plan for a run that waits. `StateError` where it waits no more, or as in `move`."""
        with self.writing():
            if read_json(self.exit_json) is not None or self.status().get("state") != "queued":
                raise StateError(N_("The run {id} is no longer waiting, so its GPUs cannot be changed."), id=self.id)
            self._refuse_another_than(after)
            return self.new_attempt(**facts)

    def write_attempt(self, **changes: Any) -> None:
        """Add to what is known of the newest start; the first where there is none yet."""
        number = self._newest_number() or self.new_attempt()
        path = self.attempts / f"{number}.json"
        write_json(path, (read_json(path) or {"number": number}) | changes)

    def append_metrics(self, row: dict[str, Any]) -> None:
        append_jsonl(self.metrics_jsonl, row)

    def write_answers(self, rows: list[dict[str, Any]]) -> None:
        write_atomic(
            self.answers_jsonl, "".join(json.dumps({"format": 1, **row}, ensure_ascii=False) + "\n" for row in rows)
        )

    def write_rank_report(self, report: RankReport) -> None:
        write_json(self.rank_report_json, report.to_dict())

    def write_exit(self, state: str, *, cause: str | None = None, message: Message | None = None, **more: Any) -> None:
        """End the run. The first end stands; a second is not written."""
        with self.writing():
            self._write_exit(state, cause=cause, message=message, **more)

    def write_exit_of_start(self, num_ends: int, state: str, **how: Any) -> None:
        """`write_exit`, where the run has ended `num_ends` times before: no end of one start is written to the next."""
        with self.writing():
            if self.num_ends() == num_ends:
                self._write_exit(state, **how)

    def _write_exit(self, state: str, *, cause: str | None, message: Message | None, **more: Any) -> None:
        if read_json(self.exit_json) is not None:
            return
        if written := self.status().get("state"):
            check_move(str(written), state)
        ended = {"state": state, "ended_at": time.time(), "cause": cause, **more}
        sentences = {"message": message, "remedy": more.get("remedy")}
        write_json(
            self.exit_json, ended | {key: value.to_json() if value else None for key, value in sentences.items()}
        )

    @property
    def stop_requested(self) -> bool:
        return self.stop_request.exists()

    def request_stop(self, actor: str | None = None, deadline_s: float = STOP_DEADLINE_S) -> None:
        """Ask the trainer to save a checkpoint and end at its next step, within `deadline_s`; a queued run just ends."""
        self.read_run()
        request = {"actor": actor or system_user(), "time": time.time(), "deadline_s": deadline_s}
        with self._saying_why(), self.writing():
            # Judged and written under one lock, so that no request is left to a start that comes after.
            if read_json(self.exit_json) is not None:
                return
            if self.status().get("state") == "queued":
                cancelled = failure("cancelled")
                self._write_exit("stopped", cause="cancelled", message=cancelled.message, actor=request["actor"])
            else:
                write_json(self.stop_request, request)

    def request_save(self, actor: str | None = None) -> None:
        """Ask the trainer for a checkpoint after its next step, and to go on."""
        self.read_run()
        with self._saying_why(), self.writing():
            if self.state().has_ended or self.status().get("state") == "queued":
                raise StateError(N_("The run {id} is not being trained, so there is nothing to save."), id=self.id)
            write_json(self.save_request, {"actor": actor or system_user(), "time": time.time()})

    @contextmanager
    def _saying_why(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = in_words(error).message
            raise RunError(said.template, **said.values) from error

    def _refuse_newer(self, data: dict[str, Any]) -> None:
        if is_newer(data):
            raise self._newer()


def _as(kind: type[D], data: dict[str, Any]) -> D | None:
    """A file as its type; None where what it cannot do without is not in it."""
    try:
        return kind.read(data)
    except ValueError:
        return None


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
    return [RunFolder(path) for path in sorted(root.iterdir(), reverse=True) if is_unlinked_file(path / "run.json")]
