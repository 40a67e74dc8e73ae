"""`runs start --on slurm|ray`, and the same words of `runs resume`."""

from __future__ import annotations

import argparse
from typing import Any

from lora_backend.clusters.cluster_documents import ClusterRequest
from lora_backend.clusters.cluster_request import request_for
from lora_backend.commands.data import count_here
from lora_backend.commands.words import GOOD, NO, print_json, say, setting
from lora_backend.config.check_report import report_text
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.launching.on_cluster import cluster_before, launch_on_cluster
from lora_backend.launching.requests import StartOptions, StartRequest
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.startable import CannotStartError
from lora_backend.runs.record.run_labels import write_labels
from lora_backend.runs.record.run_store import RunStore
from lora_backend.terminal import in_lines, show
from lora_backend.views.job_view import asked_text, job_document
from lora_backend.views.machines_view import PROGRAM
from lora_backend.views.queue_view import started_message

HERE = "here"


def asked_cluster(arguments: argparse.Namespace, installation: Installation) -> ClusterRequest | None:
    """The cluster that the words name; None: this machine, or of a resume where it trained before.

    Raises `ConfigError` for a cluster's words without one, `ClusterError` for those that it does not know.
    """
    if arguments.on in (None, HERE):
        if arguments.cluster or arguments.address:
            raise ConfigError(
                N_("`--cluster` and `--address` are for a cluster. Choose one with `--on slurm` or `--on ray`.")
            )
        return None
    return request_for(arguments.on, _settings(arguments), installation.environment, arguments.address)


def asked_again(arguments: argparse.Namespace, run: RunStore, installation: Installation) -> ClusterRequest | None:
    """The same of a resume, which may ask the cluster of before for something else: `--cluster timeout_min=600`."""
    before = cluster_before(run, installation)
    if before is None or arguments.on is not None:
        return asked_cluster(arguments, installation)
    settings = {**before.parameters, **_settings(arguments)}
    return request_for(before.kind, settings, installation.environment, arguments.address or before.address)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    for text in arguments.cluster:
        if "=" not in text:
            raise ConfigError(N_("`--cluster {text}` has no value. Write --cluster key=value."), text=text)
    return dict(map(setting, arguments.cluster))


def start_there(arguments: argparse.Namespace, resolved: ResolvedConfig, text: str, asked: ClusterRequest) -> int:
    """Submit a new run, and say how to watch it; 1 where it cannot start."""
    if not resolved.result.is_valid:
        if arguments.json:
            print_json(resolved.result.to_dict())
        show(report_text(resolved.result), to_stderr=True)
        return NO
    options = StartOptions(accepts="over" if arguments.anyway else "fits")
    try:
        run = launch_on_cluster(StartRequest(resolved, options, arguments.name, text), asked, count_here)
    except CannotStartError as error:
        if arguments.json:
            print_json({"error": str(error), "blockers": [blocker.to_dict() for blocker in error.blockers]})
        show(error, to_stderr=True)
        return NO
    if arguments.tag:
        write_labels(run.path, tags=arguments.tag)
    if arguments.json:
        said: dict[str, Any] = {"run": run.id, "path": str(run.path), "state": run.state().state}
        print_json({**said, "cluster": job_document(run)})
        return GOOD
    lines = [str(started_message(run))]
    if asked.parameters:
        lines.append(say(N_("The job asks for: {settings}"), settings=asked_text(asked)))
    show(in_lines([*lines, say(N_("Watch it with: {command}"), command=f"{PROGRAM} runs show {run.id}")]))
    return GOOD
