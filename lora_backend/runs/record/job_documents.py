"""What a run that trains nothing is asked to do, and what came of it: the `config` of its `run.json`, and its `result.json`."""

from __future__ import annotations

from typing import Any, Literal

from lora_backend.runs.record.documents import Kind
from lora_backend.typed_json import Count, Document, Number, Part, Sentence

JobKind = Literal["evaluate", "export", "download"]
Target = Literal["adapter", "merged", "gguf", "card", "hub"]
"""What an export makes; `hub`: what is pushed there."""
ExportDtype = Literal["fp32", "bf16", "fp16"]


class Column(Part):
    """Who answers: a base model alone, or with an adapter."""

    label: str
    """For people; unique among the columns beside it."""
    adapter: str | None = None
    """Its folder, absolute; None: the base model alone."""


class EvaluateRequest(Document):
    """Measure base model and adapters on rows, questions or prompts."""

    base_model: str
    """As `model_name` of a config: a folder, or a hub id that is in the cache."""
    columns: list[Column]
    """The first is what the others are held against."""
    of_run: str | None = None
    """Id of the run whose adapter it is, where there is one."""
    dataset: str | None = None
    """Rows whose loss is measured; absolute."""
    questions: str | None = None
    """A file of questions with `expect`, as the config's `questions`; absolute."""
    prompts: str | None = None
    """A file of prompts that every column answers; absolute."""
    max_rows: Count | None = None
    """Of `dataset`; None: all."""
    values: dict[str, Any] = {}
    """Keys of a config by which rows are read and labelled: `max_length`, `data_format` …; the run's own."""
    sampling: dict[str, Any] = {}
    """How prompts are answered: the fields of `chats.documents.Sampling`."""


class ExportRequest(Document):
    """Make something of an adapter that can be taken along, or push it to a hub."""

    adapter: str
    """Its folder, absolute."""
    to: Target
    """What is made of it."""
    output: str | None = None
    """Absolute: a folder, or a file (`.zip` of `adapter`, `.gguf`, `.md` of `card`); None: below the job's folder, `output/`."""
    of_run: str | None = None
    """Id of the run whose adapter it is; its card says more then."""
    base_model: str | None = None
    """Where the base model is, if not where the adapter says."""
    dtype: ExportDtype | None = None
    """None: that of the base model's files for `merged`, of the adapter's for all others."""
    rank: Count | None = None
    """Truncate to this rank at most, by singular values."""
    energy: Number | None = None
    """Truncate each layer to the rank that keeps this share of its energy, above 0 and up to 1."""
    max_bytes: Count | None = None
    """Truncate to the ranks with the most energy that fit into a file of this size."""
    overwrite: bool = False
    """Replace what stands at `output`, where it is an export of ours; it goes to the bin."""
    what: Literal["adapter", "merged"] = "adapter"
    """What `hub` pushes."""
    repo_id: str | None = None
    """Where `hub` pushes to."""
    private: bool = True
    """Whether a repository that `hub` makes is private."""
    bound: bool = False
    """Whether it was asked for in a browser: `output` must lie below an output root then."""


class DownloadRequest(Document):
    """Get a model or an adapter from a hub into its cache."""

    repo_id: str
    """`owner/name`."""
    revision: str = "main"
    """A branch, a tag or a commit, as it was asked for."""
    commit: str | None = None
    """What that was when it was asked for; the download stays with it."""


JobRequest = EvaluateRequest | ExportRequest | DownloadRequest
REQUESTS: dict[Kind, type[JobRequest]] = {
    "evaluate": EvaluateRequest,
    "export": ExportRequest,
    "download": DownloadRequest,
}


def kind_of(request: JobRequest) -> JobKind:
    """The kind of the run that does this."""
    if isinstance(request, EvaluateRequest):
        return "evaluate"
    return "export" if isinstance(request, ExportRequest) else "download"


def request_of(kind: Kind, config: dict[str, Any]) -> JobRequest:
    """What a job's `run.json` asks for. Raises `ValueError` where it asks for nothing that is known."""
    if kind not in REQUESTS:
        raise ValueError(kind)
    return REQUESTS[kind].read(config)


class Proof(Part):
    """One thing that was held against what it should be, after an export."""

    code: str
    """What was compared: `loads`, `logits`, `tensors`, `ranks`, `read_back` …"""
    passed: bool | None
    """None: it was not looked at; `message` says why."""
    message: Sentence
    """For people, with the figures."""


class ExportedFile(Part):
    """A file of an export."""

    name: str
    """Relative to `output`; its own name where that is the file itself."""
    size_bytes: Count
    """Of the file."""
    sha256: str | None = None
    """Of its bytes; None where they were not read."""


class ExportResult(Document):
    """`result.json` of an export."""

    to: Target
    """What was made."""
    output: str
    """Absolute: the folder or the file; of `hub` its address."""
    files: list[ExportedFile] = []
    """What was written, or pushed."""
    size_bytes: Count = 0
    """Of all files."""
    proofs: list[Proof] = []
    """What was held against what it should be, in that order."""
    notes: list[Sentence] = []
    """What whoever takes it along should know: what was left out, a command to load it."""
    commands: list[str] = []
    """To copy and paste; not run by us unless a proof says so."""
    ranks: dict[str, Count] = {}
    """Layer → rank, where it was truncated."""

    @property
    def is_proved(self) -> bool:
        """Nothing that was looked at is wrong."""
        return all(proof.passed is not False for proof in self.proofs)


class DownloadResult(Document):
    """`result.json` of a download."""

    repo_id: str
    """`owner/name`."""
    commit: str
    """What was downloaded."""
    path: str
    """The snapshot's folder in the hub's cache."""
    size_bytes: Count
    """Of all its files, those that were there before with them."""
    downloaded_bytes: Count
    """Of those, what came over the network this time."""
