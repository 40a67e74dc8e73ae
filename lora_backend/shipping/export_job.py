"""The export of an adapter as a job: room first, truncated where asked, made beside its place, proved, then put there."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lora_backend.atomic import write_json
from lora_backend.errors import ModelError
from lora_backend.formats import size
from lora_backend.i18n import N_, Message, Plural
from lora_backend.installation import Installation
from lora_backend.preflight.adapter_files import adapter_files
from lora_backend.preflight.export_place import MARKER, ExportError, ExportPlace, export_place, refuse_what_stands
from lora_backend.preflight.export_room import export_room, truncates
from lora_backend.preflight.export_token import refuse_without_token
from lora_backend.runs.processes.job_progress import JobProgress
from lora_backend.runs.record.job_documents import ExportedFile, ExportRequest, ExportResult, Proof
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.unlinked import refuse_links_in_its_run
from lora_backend.shipping.adapter_copy import copy_adapter, pack
from lora_backend.shipping.card_facts import CardFacts, base_finder, card_facts
from lora_backend.shipping.fresh_proof import proof_of_loading
from lora_backend.shipping.gguf_adapter import gguf_commands, proof_of_reading, write_gguf
from lora_backend.shipping.merging import merge_adapter
from lora_backend.shipping.model_card import evaluations_of, how_to_load, write_card, write_card_alone
from lora_backend.shipping.push import push
from lora_backend.shipping.staged_export import put, staging
from lora_backend.shipping.truncation import truncate_adapter, truncation_note
from lora_backend.verification.other_base import FindBase
from lora_backend.verification.passport import file_sha256, tensors_sha256
from lora_backend.verification.rank_report import check_adapter_folder
from lora_backend.verification.verdicts import verdict

logger = logging.getLogger(__name__)
_NO_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Shipment:
    """What one export is made of."""

    request: ExportRequest
    adapter: Path
    """The one that is exported: truncated, where that was asked for."""
    facts: CardFacts
    job: RunStore
    installation: Installation
    progress: JobProgress


def ship_in(request: ExportRequest, folder: RunStore, installation: Installation, progress: JobProgress) -> None:
    """Do the export of a job and write its result.

    What is made has its final name only when it is whole and was looked at; however the job ends before, nothing stands
    there. Raises `ExportError` for a place or an adapter that will not do, `DiskFullError` where there is no room.
    """
    progress.stage("reading")
    if request.to == "hub":
        refuse_without_token()
    adapter = Path(request.adapter)
    refuse_links_in_its_run(adapter)
    _refuse_damaged(adapter, base_finder(request, installation))
    facts = card_facts(request, adapter, installation)
    place = export_place(request, folder.output, file_name(facts.name), installation)
    refuse_what_stands(place, may_replace=request.overwrite)
    room = export_room(_with_base(request, facts), place.path, place.is_file)
    room.refuse_too_little()
    logger.info("takes %s of %s that are free", size(room.needed_bytes), size(room.free_bytes))
    with staging(place.path) as staged:
        truncation = _truncation(request, adapter, staged / "truncated", progress)
        if truncation is not None:
            adapter = truncation.adapter
            facts = card_facts(request, adapter, installation)
        shipment = Shipment(_with_base(request, facts), adapter, facts, folder, installation, progress)
        made = staged / (place.path.name if place.is_file else "export")
        progress.stage("writing")
        result = MAKERS[request.to](shipment, made, place)
        if truncation is not None:
            result.ranks, result.notes = truncation.ranks, [truncation.note, *result.notes]
            result.proofs = [*result.proofs, _proof_of_ranks(adapter, truncation.ranks)]
        if request.to != "hub":
            _finish(result, made, place, folder, installation)
    folder.write_result(result)
    logger.info("exported to %s", result.output)


def file_name(name: str) -> str:
    """A name as a file's: letters, digits, `.`, `_` and `-`."""
    plain = _NO_NAME.sub("-", unicodedata.normalize("NFKC", name)).strip("-.")
    return plain[:60] or "adapter"


def _finish(result: ExportResult, made: Path, place: ExportPlace, folder: RunStore, installation: Installation) -> None:
    """List what was made, mark it as ours, and give it its name."""
    result.files = _files_of(made, result.files)
    if made.is_dir():
        named = {file.name: file.size_bytes for file in result.files}
        write_json(made / MARKER, {"to": result.to, "job": folder.id, "files": named})
    result.size_bytes = sum(file.size_bytes for file in result.files)
    result.output = str(place.path)
    put(made, place, folder.id, installation)


def _adapter(shipment: Shipment, made: Path, place: ExportPlace) -> ExportResult:
    """The adapter itself, with what belongs to it."""
    request, facts = shipment.request, shipment.facts
    output = made.with_name("adapter") if place.is_file else made
    total = adapter_files(shipment.adapter).size_bytes * (2 if place.is_file else 1)
    counted = _counting(shipment.progress, total)
    copied = copy_adapter(shipment.adapter, output, facts, request.dtype, counted)
    write_card(output, facts, "adapter", evaluations_of(facts, Path(request.adapter), shipment.installation.runs))
    if place.is_file:
        pack(output, made, counted)
    shipment.progress.stage("checking")
    return ExportResult(
        to="adapter",
        output=str(place.path),
        proofs=[
            _proof_of_weights(shipment, output, is_same=copied.is_same_weights),
            proof_of_loading(output, facts.base_folder, shipment.progress),
        ],
        notes=copied.notes,
        commands=[how_to_load(facts, "adapter")],
    )


def _merged(shipment: Shipment, made: Path, place: ExportPlace) -> ExportResult:
    """The base model with the adapter in its weights."""
    if shipment.request.bound and shipment.facts.base_folder is None:
        raise ModelError(N_("The base model {name} is outside the folders that the browser may use, so nothing was merged."), name=shipment.facts.base or "–")  # fmt: skip
    result = merge_adapter(shipment.request, shipment.adapter, made, shipment.progress)
    if not (made / "README.md").exists():
        facts = shipment.facts
        found = evaluations_of(facts, Path(shipment.request.adapter), shipment.installation.runs)
        write_card(made, facts, "merged", found)
    if not result.commands:
        result.commands = [how_to_load(shipment.facts, "merged")]
    return result


def _gguf(shipment: Shipment, made: Path, place: ExportPlace) -> ExportResult:
    """The adapter for llama.cpp and Ollama."""
    facts, dtype = shipment.facts, shipment.request.dtype
    if facts.base_folder is None:
        raise ModelError(N_("The GGUF needs the base model's config.json, and {name} is not on this machine. Download it, or name its folder with `--model`."), name=facts.base or "–")  # fmt: skip
    plan = write_gguf(shipment.adapter, facts.base_folder, made, facts, dtype, shipment.progress)
    shipment.progress.stage("checking")
    return ExportResult(
        to="gguf",
        output=str(place.path),
        proofs=[proof_of_reading(made, shipment.adapter, plan, dtype)],
        notes=[Message(N_("The commands for llama.cpp and Ollama were not run here."))],
        commands=gguf_commands(place.path.name, facts.base),
    )


def _card(shipment: Shipment, made: Path, place: ExportPlace) -> ExportResult:
    """The card alone."""
    facts = shipment.facts
    found = evaluations_of(facts, Path(shipment.request.adapter), shipment.installation.runs)
    if place.is_file:
        write_card_alone(made, facts, found)
    else:
        made.mkdir()
        write_card(made, facts, "adapter", found)
    return ExportResult(to="card", output=str(place.path))


def _hub(shipment: Shipment, made: Path, place: ExportPlace) -> ExportResult:
    """What is pushed is made and proved as any other export, and then goes up."""
    maker = _merged if shipment.request.what == "merged" else _adapter
    result = maker(shipment, made, place)
    if not result.is_proved:
        raise ExportError(N_("The export did not pass its checks, so nothing was pushed: {reason}"), reason=next(proof.message for proof in result.proofs if proof.passed is False))  # fmt: skip
    pushed = push(made, shipment.request, shipment.progress)
    pushed.proofs, pushed.notes = [*result.proofs, *pushed.proofs], [*result.notes, *pushed.notes]
    return pushed


MAKERS: dict[str, Callable[[Shipment, Path, ExportPlace], ExportResult]] = {
    "adapter": _adapter,
    "merged": _merged,
    "gguf": _gguf,
    "card": _card,
    "hub": _hub,
}
"""Target → what makes it at a path that is not its final one."""


def _refuse_damaged(adapter: Path, find_base: FindBase) -> None:
    """Raise `ExportError` with the rank check's own sentence where that says no, or the folder holds no LoRA."""
    report = check_adapter_folder(adapter, None, find_base=find_base)
    if report.is_consistent is False or report.status in ("no_adapter_here", "not_peft", "not_lora"):
        raise ExportError(N_("The adapter in {path} is not exported: {reason}"), path=str(adapter), reason=verdict(report))  # fmt: skip


def _with_base(request: ExportRequest, facts: CardFacts) -> ExportRequest:
    """The request with the base model's place, where it was found by another name than the adapter's."""
    found = str(facts.base_folder) if facts.base_folder else facts.base
    return request if request.base_model or found is None else request.but(base_model=found)


@dataclass(frozen=True)
class Truncation:
    """What truncating came to."""

    adapter: Path
    ranks: dict[str, int]
    note: Message


def _truncation(request: ExportRequest, adapter: Path, output: Path, progress: JobProgress) -> Truncation | None:
    """Truncate where that is asked for; None where it is not."""
    if not truncates(request):
        return None
    progress.stage("truncating")
    before = {layer.name: layer.a_r for layer in check_adapter_folder(adapter, None).layers if layer.a_r is not None}
    ranks = truncate_adapter(adapter, output, rank=request.rank, energy=request.energy, max_bytes=request.max_bytes)
    return Truncation(output, ranks, truncation_note(before, ranks))


def _proof_of_ranks(adapter: Path, ranks: dict[str, int]) -> Proof:
    """The rank check of the truncated adapter, against its own config."""
    report = check_adapter_folder(adapter, None)
    found = {layer.name: layer.a_r for layer in report.layers}
    passed = report.is_consistent is not False and all(found.get(name) == rank for name, rank in ranks.items())
    said = Plural("{count} layer has the rank that it was truncated to.", "{count} layers have the ranks that they were truncated to.")  # fmt: skip
    return Proof(code="ranks", passed=passed, message=Message(said, {"count": len(ranks)}) if passed else verdict(report))  # fmt: skip


def _proof_of_weights(shipment: Shipment, output: Path, *, is_same: bool) -> Proof:
    """Against the adapter that was to be exported, which truncating may have made another than the one that was asked for."""
    exported = tensors_sha256(shipment.adapter)
    is_truncated = exported != tensors_sha256(Path(shipment.request.adapter))
    if not is_same:
        said = N_("The weights were rounded to {dtype}; the ranks are unchanged.")
        if is_truncated:
            said = N_("The weights were rounded to {dtype} after truncating; the ranks match the truncated adapter.")
        passed = check_adapter_folder(output, None).is_consistent is not False
    else:
        passed = tensors_sha256(output) == exported
        said = N_("The weights are identical to the adapter's, byte for byte.") if passed else N_("The weights differ from the adapter's.")  # fmt: skip
        if is_truncated:
            said = N_("The weights are identical to the truncated adapter's, byte for byte.") if passed else N_("The weights differ from the truncated adapter's.")  # fmt: skip
    return Proof(code="tensors", passed=passed, message=Message(said, {} if is_same else {"dtype": shipment.request.dtype}))  # fmt: skip


def _files_of(made: Path, known: list[ExportedFile]) -> list[ExportedFile]:
    hashes = {file.name: file.sha256 for file in known}
    paths = sorted(path for path in made.rglob("*") if path.is_file()) if made.is_dir() else [made]
    names = {path: path.relative_to(made).as_posix() if made.is_dir() else path.name for path in paths}
    return [
        ExportedFile(name=name, size_bytes=path.stat().st_size, sha256=hashes.get(name) or file_sha256(path))
        for path, name in names.items()
    ]


def _counting(progress: JobProgress, total: int) -> Callable[[int], None]:
    done = 0

    def copied(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        progress.at(done / max(total, 1), Message(N_("{done} of {total}"), {"done": size(done), "total": size(total)}))

    return copied
