"""`download`: get a model or an adapter from the hub, and see what lies in its cache."""

from __future__ import annotations

import argparse
from typing import Any

from lora_backend.commands.asking import YES
from lora_backend.commands.job import in_foreground
from lora_backend.commands.words import GOOD, NO, print_json, say
from lora_backend.formats import size, when
from lora_backend.hub.cache import (
    CachedRepository,
    cached_repositories,
    cached_repository,
    delete_cached,
    delete_partials,
)
from lora_backend.hub.hub_names import HubError
from lora_backend.hub.repository import Repository, look_up
from lora_backend.hub.room import Room, room_for
from lora_backend.i18n import N_, Message, Plural
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.jobs import start_job
from lora_backend.runs.record.job_documents import DownloadRequest, DownloadResult
from lora_backend.terminal import aligned, ask, can_ask, show
from lora_backend.views.state_view import state_message


def download(arguments: argparse.Namespace) -> int:
    """Run the command."""
    installation = this_installation()
    if arguments.list:
        return _list(arguments, installation)
    if arguments.model is None:
        raise HubError(N_("Name a model on the hub, such as Qwen/Qwen2.5-0.5B-Instruct, or use --list."))
    if arguments.delete:
        return _delete(arguments, installation)
    return _get(arguments, installation)


def _get(arguments: argparse.Namespace, installation: Installation) -> int:
    found = look_up(arguments.model, arguments.revision)
    room = room_for(found, installation)
    refusal = found.refusal or room.message
    if refusal:
        print_json({"error": refusal.text()}) if arguments.json else show(refusal, to_stderr=True)
        return NO
    request = DownloadRequest(repo_id=found.repo_id, revision=found.revision, commit=found.commit)
    show(_summary(found, room), to_stderr=True)
    if arguments.detach:
        run = start_job(request, installation, name=found.repo_id)
        document = {"run": run.id, "path": str(run.path), "commit": found.commit, "size_bytes": found.total_bytes}
        print_json(document) if arguments.json else show(run.id)
        return GOOD
    run, code = in_foreground(request, installation, name=found.repo_id)
    state, result = run.state(), run.read_result(DownloadResult)
    if arguments.json:
        outcome: dict[str, Any] = {"run": run.id, "state": state.state}
        outcome |= {"error": state.message.text()} if state.message else {}
        print_json(outcome | (result.to_json() if result else {}))
    elif result:
        show(result.path)
    else:
        values = {"state": state_message(state.state), "repo": found.repo_id}
        show(
            Message(N_("{state}. What was downloaded is kept. Continue with: flightdeck download {repo}"), values),
            to_stderr=True,
        )
    return code


def _summary(found: Repository, room: Room) -> Message:
    values: dict[str, object] = {"count": len(found.files)}
    files = Message(Plural("{count} file", "{count} files"), values)
    return Message(
        N_("{repo} at {commit}: {files}, {size}. To download: {missing}; free: {free}."),
        {
            "repo": found.repo_id,
            "commit": found.commit[:12],
            "files": files,
            "size": size(found.total_bytes),
            "missing": size(room.missing_bytes),
            "free": size(room.free_bytes),
        },
    )


def _list(arguments: argparse.Namespace, installation: Installation) -> int:
    found = cached_repositories(installation)
    if arguments.json:
        total = sum(one.size_bytes for one in found)
        print_json({"repositories": [_document(one) for one in found], "size_bytes": total})
    elif found:
        head = [say(N_("Model")), say(N_("Kind")), say(N_("Size")), say(N_("Partly downloaded")), say(N_("Last used"))]
        show(aligned([head, *map(_row, found)], left=2))
    else:
        show(say(N_("The hub's cache is empty.")))
    return GOOD


def _document(one: CachedRepository) -> dict[str, Any]:
    return {**vars(one), "path": str(one.path)}


def _row(one: CachedRepository) -> list[str]:
    kinds = {"model": N_("model"), "adapter": N_("adapter"), "part": N_("incomplete")}
    return [
        one.repo_id,
        say(kinds[one.kind]),
        size(one.size_bytes),
        size(one.partial_bytes) if one.partial_bytes else "–",
        when(one.last_used),
    ]


def _delete(arguments: argparse.Namespace, installation: Installation) -> int:
    found = cached_repository(arguments.model, installation)
    num_bytes = found.partial_bytes if arguments.partial else found.size_bytes
    if not arguments.yes and not _agrees(found, num_bytes):
        show(say(N_("Nothing was deleted.")), to_stderr=True)
        return NO
    freed = (delete_partials if arguments.partial else delete_cached)(found.repo_id, installation)
    if arguments.json:
        print_json({"repo_id": found.repo_id, "freed_bytes": freed})
    else:
        show(say(N_("Deleted {size} of {repo}."), size=size(freed), repo=found.repo_id))
    return GOOD


def _agrees(found: CachedRepository, num_bytes: int) -> bool:
    if not can_ask():
        raise HubError(
            N_("Deleting needs confirmation, but this is not a terminal. Add --yes to delete {repo}."),
            repo=found.repo_id,
        )
    question = say(N_("Delete {repo} ({size}) from the cache? [y/N]"), size=size(num_bytes), repo=found.repo_id)
    return ask(question).strip().lower() in YES
