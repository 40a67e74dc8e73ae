"""A run's files, read as their types and written under a lock.

`run.json` never changes; `status.json` is replaced as a whole; `metrics.jsonl` grows; `exit.json` ends it. How a run goes
from one state to another is in `transitions.py`.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from lora_backend.atomic import write_atomic, write_json
from lora_backend.bounded import read_text
from lora_backend.clock import Clock, machine_clock, stamp
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import KINDS, Answer, Exit, MetricPoint, RunRecord, Status, StopRequest
from lora_backend.runs.record.locked_files import (
    MAX_REPORT_BYTES,
    MAX_STATE_BYTES,
    append_jsonl,
    lock_file,
    read_json,
    read_jsonl,
)
from lora_backend.runs.record.process_identity import boot_clock_s
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.runs.record.sample_document import Sample
from lora_backend.runs.record.states import RunState, check_move, judge
from lora_backend.runs.record.unlinked import refuse_links
from lora_backend.symlinks import is_unlinked_file
from lora_backend.typed_json import Document
from lora_backend.verification.rank_documents import RankReport

RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,79}")
LEAST_ROOM_BYTES = 64 * 1024
"""A disk with less has no room for the few lines that say how a run ended."""
D = TypeVar("D", bound=Document)


class RunStore(RunFolder):
    """One run's files. Reading never raises for a file that is absent or half gone; writing does.

    `clock`: by which it is written down when something happened.
    """

    def __init__(self, path: Path, clock: Clock = machine_clock) -> None:
        super().__init__(path)
        self.clock = clock

    # ----------------------------------------------------------------------------------- reading

    def read_record(self) -> RunRecord:
        """`run.json`. Raises `RunError` where the folder is no run (any more), or one of a newer version."""
        found = read_json(self.run_json)
        if found is None:
            if self.path.is_symlink() or self.run_json.is_symlink():
                refuse_links(self.path)
            raise RunError(N_("Run {id} was not found; its folder may have been deleted."), id=self.id)
        if RunRecord.is_newer(found) or found.get("kind", KINDS[0]) not in KINDS:
            raise self._newer()
        try:
            return RunRecord.read(found)
        except ValueError as error:
            raise RunError(
                N_("The run.json of run {id} has no config, so it cannot be shown. Copy the run again."), id=self.id
            ) from error

    def glance_at_record(self) -> RunRecord | None:
        """The same for a list, which shows what it can of every run; None for what is none."""
        return self._read(self.run_json, RunRecord)

    def config_text(self) -> str | None:
        """The config as it was written; None where the file is gone, or is a link, or no text."""
        try:
            return read_text(self.config_yaml, MAX_STATE_BYTES, follow=False)
        except (OSError, UnicodeDecodeError):
            return None

    def state(self) -> RunState:
        """What is true now. Reads only; `recovery.recover` also sees to it that somebody watches the trainer.

        A run that ends, or begins again, while it is looked at is looked at once more: else it would be shown as ended, and
        never asked about again, with the step of a moment before, or as lost because its processes have just gone.
        """
        state, is_as_it_was = self._judged()
        return state if is_as_it_was else self._judged()[0]

    def _judged(self) -> tuple[RunState, bool]:
        """The state, and whether the end was, or was not, there from before the first look to after the last."""
        had_ended = self.exit_json.exists()
        state = judge(
            self.read_status(),
            self.read_exit(),
            stop_requested=self.stop_request.exists(),
            disk_is_full=self.has_no_room(),
        )
        return state, self.exit_json.exists() == had_ended

    def has_no_room(self) -> bool:
        """Whether the disk is so full that not even the end can be written."""
        try:
            return shutil.disk_usage(self.path).free < LEAST_ROOM_BYTES
        except OSError:
            return False

    def read_status(self) -> Status:
        """How the run stood when that was last written; empty where nothing can be read."""
        return self._read(self.status_json, Status) or Status()

    def read_exit(self) -> Exit | None:
        """How it ended; None for a run that has not."""
        return self._read(self.exit_json, Exit)

    def read_attempt(self, number: int | None = None) -> Attempt:
        """A start of the run, by default the newest; empty, and number 0, without any."""
        number = self.newest_number() if number is None else number
        found = self._read(self.attempt_json(number), Attempt)
        if found is None:
            return Attempt()
        found.number = number  # by the file's name: names of other files are made of it
        return found

    def read_attempts(self) -> list[Attempt]:
        """Every start that can be read, in order."""
        return [attempt for number in self.attempt_numbers() if (attempt := self.read_attempt(number)).number]

    def newest_number(self) -> int:
        """Of the starts, counted from 1; 0 without any."""
        return max(self.attempt_numbers(), default=0)

    def config_as_changed(self, upto: int | None = None) -> dict[str, Any]:
        """Its config with the changes of all its starts, in their order: what the next start trains by.

        `upto`: the number of a start, for the config that it trained by.
        """
        attempts = self.read_attempts()
        return config_after(self.read_record().config, [one for one in attempts if upto is None or one.number <= upto])

    def read_rank_report(self) -> RankReport | None:
        """The rank check; None before it, or where the file is not whole."""
        found = read_json(self.rank_report_json, MAX_REPORT_BYTES) or {}
        report = _as(RankReport, found)
        # What was found of the saved adapter decides, so a report of which that cannot be read decides nothing.
        return None if report is None or (report.saved is None and found.get("saved")) else report

    def read_answers(self) -> list[Answer]:
        """The config's questions, answered; lines that are not whole are left out."""
        return [answer for row in read_jsonl(self.answers_jsonl) if (answer := _as(Answer, row)) is not None]

    def read_samples(self) -> list[Sample]:
        """What was answered while it trained; lines that are not whole are left out."""
        return [sample for row in read_jsonl(self.samples_jsonl) if (sample := _as(Sample, row)) is not None]

    def read_result(self, kind: type[D]) -> D | None:
        """What came of a job; None before its end, or where the file is not whole."""
        return self._read(self.result_json, kind)

    def write_result(self, result: Document) -> None:
        """Last of all that a job writes."""
        write_json(self.result_json, result.to_json())

    def read_stop_request(self) -> StopRequest | None:
        """Who asked the run to stop, and when; None where nobody has."""
        return self._read(self.stop_request, StopRequest)

    def _read(self, path: Path, kind: type[D]) -> D | None:
        found = read_json(path)
        return None if found is None else _as(kind, found)

    # ----------------------------------------------------------------------------------- writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Reading and writing back as one: launcher, supervisor and trainer all change these files. Not to be nested."""
        with lock_file(self.status_lock):
            yield

    @contextmanager
    def changing_status(self) -> Iterator[Status]:
        """Change `status.json` under the lock: what the block sets is written at its end. `StateError` for a state that
        cannot follow, and then nothing is."""
        with self.writing(), self.changing_status_locked() as status:
            yield status

    @contextmanager
    def changing_status_locked(self) -> Iterator[Status]:
        """The same for whoever holds the lock."""
        self.refuse_newer(self.status_json, Status)
        status = self.read_status()
        before = status.state
        status.model_fields_set.discard("state")
        yield status
        is_moved = "state" in status.model_fields_set  # by the block; to be told to stay is a move as well
        if is_moved and status.state is not None and before is not None:  # without one it was lost with half a file
            ended = self.read_exit()
            check_move(ended.state if ended else before, status.state)
        status.updated_at, status.updated_boot_clock_s = self.clock(), boot_clock_s()
        write_json(self.status_json, status.to_json())

    @contextmanager
    def changing_attempt(self) -> Iterator[Attempt]:
        """Add to what is known of the newest start, the first where there is none yet; written at the block's end.

        Only its trainer does, and before that its launcher, so there is nobody to be locked out.
        """
        attempt = self.read_attempt()
        if not attempt.number:
            attempt.number, attempt.time = self.newest_number() or 1, self.clock()
        yield attempt
        self.write_attempt_file(attempt)

    def write_attempt_file(self, attempt: Attempt) -> None:
        """Write the file of the start with that number."""
        self.attempts.mkdir(exist_ok=True)
        write_json(self.attempt_json(attempt.number), attempt.to_json())

    def append_point(self, point: MetricPoint) -> None:
        """Add a point to the curves."""
        append_jsonl(self.metrics_jsonl, point.to_json())

    def append_sample(self, sample: Sample) -> None:
        """Add what was answered while it trains."""
        append_jsonl(self.samples_jsonl, sample.to_json())

    def append_answer(self, answer: Answer) -> None:
        """Add one that has just been given; at the end all are written in the order of the questions."""
        append_jsonl(self.answers_jsonl, answer.to_json())

    def write_answers(self, answers: Sequence[Answer]) -> None:
        lines = (json.dumps(answer.to_json(), ensure_ascii=False) + "\n" for answer in answers)
        write_atomic(self.answers_jsonl, "".join(lines))

    def write_rank_report(self, report: RankReport) -> None:
        write_json(self.rank_report_json, report.to_json())

    def answer_save_request(self) -> None:
        """Take it away: a checkpoint is there, or none is saved any more."""
        self.save_request.unlink(missing_ok=True)

    def refuse_newer(self, path: Path, kind: type[Document]) -> None:
        """Raise `RunError` where a newer version wrote the file: what this one writes back could lack something."""
        found = read_json(path)
        if found is not None and kind.is_newer(found):
            raise self._newer()

    def _newer(self) -> RunError:
        return RunError(N_("Run {id} was written by a newer version. Update to open it."), id=self.id)


def config_after(config: Mapping[str, Any], attempts: Sequence[Attempt]) -> dict[str, Any]:
    """A config with what those starts changed of it."""
    return reduce(lambda values, attempt: values | attempt.changes, attempts, dict(config))


def _as(kind: type[D], data: dict[str, object]) -> D | None:
    """A file as its type; None where what it cannot do without is not in it."""
    try:
        return kind.read(data)
    except ValueError:
        return None


def new_run_id(clock: Clock = machine_clock) -> str:
    """Sorts by time, to the millisecond, and two of the same moment differ."""
    now = clock()
    return f"{stamp(now)}-{int(now % 1 * 1000):03}{secrets.token_hex(2)}"


def open_run(root: Path, run_id: str) -> RunStore:
    """The run `run_id` below `root`. Raises `RunError` for an id that is none, that is not there, or that a newer version
    has written to."""
    if not RUN_ID.fullmatch(run_id):
        raise RunError(N_("{id} is not the id of a run."), id=run_id[:80])
    run = RunStore(root / run_id)
    run.read_record()
    for path, kind in (
        (run.status_json, Status),
        (run.exit_json, Exit),
        (run.attempt_json(run.newest_number()), Attempt),
    ):
        run.refuse_newer(path, kind)
    return run


def list_runs(root: Path) -> list[RunStore]:
    """All runs below `root`, the newest first."""
    if not root.is_dir():
        return []
    return [RunStore(path) for path in sorted(root.iterdir(), reverse=True) if is_unlinked_file(path / "run.json")]
