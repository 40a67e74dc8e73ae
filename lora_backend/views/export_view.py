"""An export in words: what was made, how large it is, what was proved; and what would go up to a hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_backend.formats import size
from lora_backend.i18n import N_, Message, Plural
from lora_backend.preflight.adapter_files import MADE, adapter_files
from lora_backend.runs.record.job_documents import ExportRequest, ExportResult, Target
from lora_backend.views.table import Fill, Table

TARGETS: dict[Target, str] = {
    "adapter": N_("Adapter"),
    "merged": N_("Merged model"),
    "gguf": N_("GGUF"),
    "card": N_("Model card"),
    "hub": N_("Push to hub"),
}
_PROOFS = {
    "loads": N_("Loads elsewhere"),
    "tensors": N_("Weights"),
    "logits": N_("Logits"),
    "ranks": N_("Ranks"),
    "read_back": N_("Read back"),
    "uploaded": N_("Uploaded"),
}
_VERDICTS = {True: N_("passed"), False: N_("did not pass"), None: N_("not checked")}
SIGNS = {True: "✓", False: "✗", None: "–"}
"""Of each verdict, for colour never stands alone."""


@dataclass(frozen=True)
class ProofLine:
    """One proof as it is read."""

    passed: bool | None
    title: Message
    """What was looked at, and how that went: `Weights: passed`."""
    message: Message
    """The proof's own sentence."""


@dataclass(frozen=True)
class GoesUp:
    """What a push would upload."""

    rows: tuple[tuple[str, Message | str], ...]
    """File and size, or that it is made for the push."""
    size_bytes: int
    """Of those that are there already."""

    @property
    def table(self) -> Table:
        return Table((Message(N_("File")), Message(N_("Size"))), self.rows, _plain(len(self.rows)))


def proof_lines(result: ExportResult) -> list[ProofLine]:
    """Every proof of an export, in its order."""
    return [
        ProofLine(
            proof.passed,
            Message(N_("{what}: {verdict}"), {"what": _word(proof.code), "verdict": Message(_VERDICTS[proof.passed])}),
            proof.message,
        )
        for proof in result.proofs
    ]


def file_table(result: ExportResult) -> Table:
    """Name, size and hash of each file."""
    rows = tuple((file.name, size(file.size_bytes), (file.sha256 or "–")[:16]) for file in result.files)
    return Table((Message(N_("File")), Message(N_("Size")), Message(N_("sha256"))), rows, _plain(len(rows)))


def export_summary(result: ExportResult) -> Message:
    """What was made, and where it is."""
    files = Message(Plural("{count} file", "{count} files"), {"count": len(result.files)})
    values = {"path": result.output, "files": files, "size": size(result.size_bytes)}
    if result.to == "hub":
        return Message(N_("Pushed to {path}: {files}, {size}."), values)
    return Message(N_("Exported to {path}: {files}, {size}."), values)


def rank_summary(result: ExportResult) -> Message | None:
    """To which ranks it was truncated; None where it was not."""
    if not result.ranks:
        return None
    low, high = min(result.ranks.values()), max(result.ranks.values())
    if low == high:
        return Message(N_("Truncated to rank {rank}."), {"rank": low})
    return Message(N_("Truncated to ranks {low} to {high}."), {"low": low, "high": high})


def goes_up(request: ExportRequest, merged_bytes: int | None = None) -> GoesUp:
    """What a push of `request` uploads. `merged_bytes`: of the merged weights, where those go up."""
    made = Message(N_("made for the push"))
    if request.what == "merged":
        rows: Sequence[tuple[str, Message | str]] = [("model*.safetensors", size(merged_bytes)), ("config.json", made), ("tokenizer*", made)]  # fmt: skip
        return GoesUp((*rows, (MADE[0], made)), merged_bytes or 0)
    files = adapter_files(Path(request.adapter))
    rows = [(path.name, size(path.stat().st_size)) for path in files.kept]
    names = MADE if request.of_run else MADE[:1]
    return GoesUp((*rows, *((name, made) for name in names)), files.size_bytes)


def where_it_goes(request: ExportRequest) -> Message:
    """The repository, and who will see it."""
    said = N_("Goes to {repo}. If the repository is new, it is private.") if request.private else N_("Goes to {repo}. If the repository is new, it is public: anyone can read it.")  # fmt: skip
    return Message(said, {"repo": request.repo_id or "–"})


def _word(code: str) -> Message:
    return Message(_PROOFS[code]) if code in _PROOFS else Message("{code}", {"code": code})


def _plain(num_rows: int) -> tuple[Fill, ...]:
    """No colour for any row."""
    none: Fill = ""
    return (none,) * num_rows
