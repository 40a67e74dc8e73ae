"""`ship`: make something of an adapter that can be taken along, or push it to a hub."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from lora_backend.commands.asking import YES
from lora_backend.commands.job import in_foreground
from lora_backend.commands.subjects import Subject, adapter_of
from lora_backend.commands.words import GOOD, NO, print_json, say
from lora_backend.formats import size
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.jobs import start_job
from lora_backend.preflight.export_place import ExportError, export_place, refuse_what_stands
from lora_backend.preflight.export_room import export_bytes, export_room
from lora_backend.preflight.export_token import refuse_without_token
from lora_backend.runs.record.job_documents import ExportRequest, ExportResult
from lora_backend.runs.record.run_store import RunStore
from lora_backend.terminal import aligned, ask, can_ask, show
from lora_backend.views.export_view import (
    SIGNS,
    export_summary,
    goes_up,
    proof_lines,
    rank_summary,
    where_it_goes,
)
from lora_backend.views.state_view import state_message

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([A-Za-z]{0,3})")


def ship(arguments: argparse.Namespace) -> int:
    """Run the command."""
    installation = this_installation()
    subject = adapter_of(arguments.subject)
    request = _request(arguments, subject, installation)
    place = export_place(request, installation.runs / "output", "adapter", installation)
    refuse_what_stands(place, may_replace=request.overwrite)
    export_room(request, place.path, place.is_file).refuse_too_little()
    if request.to == "hub":
        refuse_without_token()
        if not _is_wanted(arguments, request):
            show(say(N_("Nothing was pushed.")), to_stderr=True)
            return NO
    name = f"{subject.label} → {request.to}"
    if arguments.detach:
        run = start_job(request, installation, name=name)
        print_json({"run": run.id, "path": str(run.path)}) if arguments.json else show(run.id)
        return GOOD
    run, code = in_foreground(request, installation, name=name)
    result = run.read_result(ExportResult)
    if arguments.json:
        print_json(_document(run, result))
    elif result is not None:
        _show(result)
    elif code == GOOD or run.state().state == "stopped":
        show(state_message(run.state().state), to_stderr=True)
    return NO if result is not None and not result.is_proved else code


def _request(arguments: argparse.Namespace, subject: Subject, installation: Installation) -> ExportRequest:
    """What the words ask for. Raises `ExportError` for words that do not go together."""
    limits = {"rank": arguments.rank, "energy": arguments.energy, "max_bytes": bytes_of(arguments.max_size)}
    given = {name: value for name, value in limits.items() if value is not None}
    if len(given) > 1:
        raise ExportError(N_("`--rank`, `--energy` and `--max-size` set the same thing. Use only one of them."))
    if arguments.rank is not None and arguments.rank < 1:
        raise ExportError(N_("`--rank` must be a whole number above 0, not {value}."), value=arguments.rank)
    if arguments.energy is not None and not 0 < arguments.energy <= 1:
        raise ExportError(N_("`--energy` must be a share above 0 and at most 1, not {value}."), value=arguments.energy)
    to_hub = arguments.to == "hub"
    if to_hub and not REPOSITORY.fullmatch(arguments.repo or ""):
        raise ExportError(N_("Say where to push to, for example `--repo OWNER/NAME`."))
    if to_hub and arguments.output is not None:
        raise ExportError(N_("`--to hub` writes no file. Leave out `--output`."))
    if arguments.repo and not to_hub:
        raise ExportError(N_("`--repo` works only with `--to hub`."))
    output = None if arguments.output is None else str(installation.folder / arguments.output.expanduser())
    base = _placed(arguments.model or _base_of(subject), installation)
    return ExportRequest(
        adapter=str((installation.folder / subject.adapter).resolve()),
        to=arguments.to,
        output=output,
        of_run=subject.run.id if subject.run is not None else None,
        base_model=base,
        dtype=arguments.dtype,
        overwrite=arguments.overwrite,
        what=arguments.what,
        repo_id=arguments.repo,
        private=not arguments.public,
        **given,
    )


def _base_of(subject: Subject) -> str | None:
    """A run's own base model; what an adapter names is read where it is needed."""
    return subject.base_model if subject.run is not None else None


def _placed(name: str | None, installation: Installation) -> str | None:
    """A folder of this machine as it is found from any folder; a hub id as it is."""
    if name is None:
        return None
    path = installation.folder / Path(name).expanduser()
    return str(path) if path.exists() else name


def bytes_of(words: str | None) -> int | None:
    """`20MB`, `1.5 GiB` or `4096` in bytes. Raises `ExportError` for anything else."""
    if words is None:
        return None
    found = _SIZE.fullmatch(words.strip())
    unit = UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or float(found[1]) <= 0:
        raise ExportError(N_("`--max-size` must be a size above 0, such as 20MB, not {value}."), value=words[:80])
    return int(float(found[1]) * unit)


def _is_wanted(arguments: argparse.Namespace, request: ExportRequest) -> bool:
    """Show what goes up, and ask."""
    merged = export_bytes(request, is_file=False) if request.what == "merged" else None
    found = goes_up(request, merged)
    show(where_it_goes(request), to_stderr=True)
    show(aligned([[name, str(said)] for name, said in found.rows]), to_stderr=True)
    if arguments.yes:
        return True
    if not can_ask():
        raise ExportError(N_("Pushing needs confirmation, but this is not a terminal. Add `--yes` to push {size} to {repo}."), size=size(found.size_bytes), repo=request.repo_id)  # fmt: skip
    return ask(say(N_("Push these files? [y/N]"))).strip().lower() in YES


def _document(run: RunStore, result: ExportResult | None) -> dict[str, Any]:
    state = run.state()
    found: dict[str, Any] = {"run": run.id, "state": state.state}
    if result is None:
        return found | ({"error": state.message.text()} if state.message else {})
    proofs = [{"code": proof.code, "passed": proof.passed, "message": proof.message.text()} for proof in result.proofs]
    plain = {key: value for key, value in result.to_json().items() if key != "format"}
    return found | plain | {"proofs": proofs, "notes": [note.text() for note in result.notes]}


def _show(result: ExportResult) -> None:
    show(export_summary(result))
    if truncated := rank_summary(result):
        show(truncated)
    for proof in proof_lines(result):
        show(Message("{sign} {title}. {message}", {"sign": SIGNS[proof.passed], "title": proof.title, "message": proof.message}))  # fmt: skip
    for note in result.notes:
        show(note)
    for command in result.commands:
        show("")
        show(command)
