"""The files of a run as types: who writes each, when, and what every field means. Times are seconds since the epoch, sizes bytes.

Read and written by `run_store.py`. `docs/schemas/` has the same as JSON Schema, made from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field

from lora_backend.clusters.cluster_documents import ClusterJob
from lora_backend.i18n import N_, Message
from lora_backend.runs.record.peer_documents import PeerProcess, SaidFailure
from lora_backend.runs.record.process_identity import Process
from lora_backend.typed_json import Count, Document, Number, Part, Sentence

Kind = Literal["train", "evaluate", "export", "download"]
"""What a run does. All have config, states, supervisor, lease, log and end; only `train` has metrics, checkpoints and ranks."""
KINDS: tuple[Kind, ...] = get_args(Kind)
WrittenState = Literal["queued", "starting", "running", "stopping", "stopped", "finished", "failed", "lost"]
EndState = Literal["stopped", "finished", "failed", "lost"]
EARLY_STOPPING = "early_stopping"
"""Cause of an end that came before the last step because evaluations did not improve any more."""
STOP_DEADLINE_S = 120.0
"""How long a trainer may take to save and end after a stop; then its supervisor ends it."""


class CodeVersion(Part):
    """The program's commit."""

    commit: str
    """Its hash."""
    is_modified: bool | None = None
    """Whether something was not as in the commit; None where git did not say."""


class RunRecord(Document):
    """`run.json`: what is run, by whose order. Written once, by the launcher, last of the files of a new run."""

    id: str = ""
    """The folder's name when it was made."""
    kind: Kind = "train"
    """Absent in folders of older versions, which knew no other."""
    name: str | None = None
    """As whoever launched it called it."""
    created_at: Number | None = None
    """When the folder was made."""
    actor: str = ""
    """Who launched it."""
    config: dict[str, Any]
    """As it runs, paths bound; resumes change it by `changes` of their attempts."""
    argv: list[str] | None = None
    """The command of the process that does it; None: the process that made the folder, on batches of its own."""
    argv_seal: str | None = None
    """Made with a key of the installation: a command without it is not run."""
    data_sha256: str | None = None
    """Of the data set's bytes at the launch."""
    versions: dict[str, str | None] | None = None
    """Package → version at the launch."""
    python: str | None = None
    """Its version at the launch."""
    platform: str | None = None
    """Kernel and machine, as Python names them."""
    code: CodeVersion | None = None
    """Of this program."""


class LaunchMoment(Part):
    """When a start was launched, on a clock that nobody sets."""

    boot_id: str
    """The kernel's id of the boot."""
    boot_clock_s: Number
    """Since boot, sleep included."""


class QueuePlace(Part):
    """A place in the workspace's queue."""

    number: int
    """Counted, the first come first."""


class AttemptStatus(Document):
    """How the newest start of a run is doing. The next start begins with an empty one."""

    launched: LaunchMoment | None = None
    """Written by whoever launches or queues it."""
    queue: QueuePlace | None = None
    """Where it waits for its devices."""
    launcher: Process | None = None
    """The process that starts the supervisor."""
    supervisor: Process | None = None
    """Starts the trainer and writes how it ended; it names itself."""
    child: Process | None = None
    """What the supervisor started: the trainer, or a launcher of it."""
    trainer: Process | None = None
    """Written by the trainer itself when it begins; of several processes, what starts them."""
    job: ClusterJob | None = None
    """Its job, where a cluster trains it; written by the supervisor. Then there is no child."""
    peers: list[PeerProcess] = []
    """The processes that train together, where there are several; each adds itself."""
    stage: str | None = None
    """What the trainer is at: preparing, data, loading, first_step, training, saving, answering."""
    fraction: Number | None = None
    """How far a stage that counts no steps has come, from 0 to 1."""
    eta_s: Number | None = None
    """Until the last step, or the last answer, as the trainer estimates it."""
    detail: Sentence | None = None
    """What the stage has to say of itself."""
    outcome: Literal["finished", "stopped"] | None = None
    """How a trainer that did not fail ended; it leaves it to its supervisor here."""
    outcome_cause: str | None = None
    """Why it ended before its last step, where nobody asked for that; as a code."""
    outcome_message: Sentence | None = None
    """The same for people."""
    failure: SaidFailure | None = None
    """Why it failed."""
    best_step: Count | None = None
    """The step of the best evaluation so far, by `metric_for_best_model`; written by the trainer behind each."""

    def also(self, said: Message) -> None:
        """One more sentence of how it ended, behind what is said already."""
        before = self.outcome_message
        both = Message(N_("{first} {second}"), {"first": before, "second": said})
        self.outcome_message = said if before is None else both


class Status(Document):
    """`status.json`: how a run stands. Launcher, supervisor and trainer replace it as a whole, under a lock.

    It says what was last written, whatever has become of the processes since; `judge` in `states.py` says what is true.
    """

    FORMAT: ClassVar[int] = 2

    state: WrittenState | None = None
    """Before its end: an ended run has `exit.json`. `stopping` and `lost` are judged, never written."""
    created_at: Number | None = None
    """When the folder was made."""
    started_at: Number | None = None
    """When the trainer of the newest start that had one began."""
    step: Count = 0
    """Optimizer steps that are done."""
    total_steps: Count | None = None
    """Of the whole run; written by the trainer before its first step."""
    epoch: Number | None = None
    """Epochs that are done, with a fraction."""
    updated_at: Number | None = None
    """When the file was written."""
    updated_boot_clock_s: Number | None = None
    """The same moment since boot: by it a trainer counts as silent."""
    attempt: AttemptStatus = Field(default_factory=AttemptStatus)
    """What belongs to the newest start alone."""

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Format 1 had what belongs to one attempt among the other keys."""
        flat = {key: value for key, value in data.items() if key in AttemptStatus.model_fields}
        if "attempt" not in data:
            data = {**{key: value for key, value in data.items() if key not in flat}, "attempt": flat}
        return super().read(data)

    def to_json(self) -> dict[str, Any]:
        attempt = {key: value for key, value in self.attempt.to_json().items() if value is not None and key != "format"}
        plain = {key: value for key, value in self.model_dump(exclude={"attempt"}).items() if value is not None}
        return {"format": self.FORMAT, **plain, "attempt": attempt}


class Exit(Document):
    """`exit.json`: how a run ended. Written by its supervisor, or by a trainer without one; the first that is written stands.

    A resume moves it to `attempts/<n>.exit.json`.
    """

    state: EndState = "lost"
    """`lost` too where the file does not say."""
    started_at: Number | None = None
    """When its trainer began; absent where it never did, and in older files."""
    ended_at: Number | None = None
    """When that was written."""
    cause: str | None = None
    """Why it failed or was stopped, as a code."""
    message: Sentence | None = None
    """The same for people."""
    remedy: Sentence | None = None
    """What to do about it."""
    returncode: int | None = None
    """Of the trainer; negative: the signal that ended it."""
    log: list[str] = []
    """The log's last lines, of a run that failed."""
    actor: str | None = None
    """Who took it out of the queue."""

    @classmethod
    def of(
        cls,
        state: str,
        *,
        cause: str | None = None,
        message: Message | None = None,
        remedy: Message | None = None,
        **more: Any,
    ) -> Self:
        """An end, with what is said of it. Raises `ValueError` for a state that is none."""
        return cls.model_validate({"state": state, "cause": cause, "message": message, "remedy": remedy, **more})


class StopRequest(Document):
    """`stop.request`: the trainer saves a checkpoint after its step and ends. Written by whoever asks."""

    actor: str | None = None
    """Who asked."""
    time: Number | None = None
    """When."""
    deadline_s: Number = STOP_DEADLINE_S
    """After so long the supervisor ends the trainer."""
    signal: str | None = None
    """Name of the signal that asked for it."""


class SaveRequest(Document):
    """`save.request`: the trainer saves a checkpoint after its step and goes on. Written by whoever asks."""

    actor: str | None = None
    """Who asked."""
    time: Number | None = None
    """When."""


class MetricPoint(Document):
    """A line of `metrics.jsonl`: what the trainer logged after a step, or an evaluation at it."""

    step: Count
    """Optimizer steps that were done."""
    epoch: Number | None = None
    """Epochs that were done, with a fraction."""
    loss: Number | None = None
    """Of training, the mean since the point before; nats a token. None where it is no number."""
    eval_loss: Number | None = None
    """Of the validation rows, nats a token."""
    eval_token_accuracy: Number | None = None
    """Share of the validation rows' learned tokens of which the likeliest word is the one that comes, 0 to 1."""
    learning_rate: Number | None = None
    """At the step's end, as the schedule says."""
    grad_norm: Number | None = None
    """Before clipping."""
    tokens_per_s: Number | None = None
    """Tokens that are no padding."""
    memory_bytes: Count | None = None
    """In use on all GPUs together, or by the trainer's process on the CPU."""
    time: Number | None = None
    """When it was logged."""


class Answer(Document):
    """A line of `answers.jsonl`: a question of the config, answered by base model and adapter. The trainer adds each as
    it comes, and at its end writes all anew in the order of the questions."""

    question: str = ""
    """The last message of the chat that was asked."""
    group: str = ""
    """Questions of one group are counted together; empty: of none."""
    expect: list[str] = []
    """An answer is right when it contains one of these."""
    base_answer: str = ""
    """The base model's."""
    base_correct: bool | None = None
    """None where nothing is expected."""
    adapter_answer: str = ""
    """The same model's with the adapter."""
    adapter_correct: bool | None = None
    """As `base_correct`."""


class Labels(Document):
    """`labels.json`: what people say of a run. Text is kept as it was written, and shown as text."""

    tags: list[str] = []
    """Each once, in the order in which they were given."""
    note: str = ""
    """Free text of several lines."""
    pinned: bool = False
    """Shown before the others."""
    archived: bool = False
    """Put away: lists leave it out unless they are asked for it."""
