"""`runs start`: start one run in the background, on this machine or on several that train it together."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora_backend.commands.asking import asked_once, refusal_lines
from lora_backend.commands.data import count_here
from lora_backend.commands.plan import trace_here
from lora_backend.commands.run_machines import machine_lines
from lora_backend.commands.run_on_cluster import asked_cluster, start_there
from lora_backend.commands.run_queue import model_from_here
from lora_backend.commands.start_words import start_text
from lora_backend.commands.words import GOOD, NO, print_json, say, setting
from lora_backend.config.check_report import report_text
from lora_backend.config.config_text import ConfigDocument, parse_config, read_config
from lora_backend.config.config_writing import dump_yaml, with_values
from lora_backend.config.diff import same_value
from lora_backend.errors import ConfigError
from lora_backend.hardware.addresses import network_addresses
from lora_backend.i18n import N_
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.launch import launch
from lora_backend.launching.meeting import MeetingError, meeting_elsewhere, meeting_here
from lora_backend.launching.requests import StartOptions, StartRequest
from lora_backend.launching.resume import prepare_resume, resume_run
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.placement import PlanDoubtError
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from lora_backend.preflight.startable import Startable, judge, startable
from lora_backend.runs.processes.recovery import open_recovered
from lora_backend.runs.record.meetings import run_id_of
from lora_backend.runs.record.peer_documents import MachineMeeting
from lora_backend.runs.record.run_labels import write_labels
from lora_backend.runs.record.run_store import RunStore
from lora_backend.terminal import in_lines, show
from lora_backend.views.machines_view import PROGRAM, ShownMachine, machines_of, part_of
from lora_backend.views.queue_view import started_message


@dataclass(frozen=True)
class Asked:
    """A config as it is to be started, and where."""

    resolved: ResolvedConfig
    text: str
    changes: Mapping[str, Any]
    """Keys that are other ones than the file says."""
    meeting: MachineMeeting | None


def start_command(arguments: argparse.Namespace) -> int:
    """Start a run and say how to watch it, and what to run on the other machines; 1 where it cannot start."""
    installation = this_installation()
    document, changes = read_config(arguments.config), _changes(arguments)
    policy = AnyPath(installation.folder, installation.data_roots, is_bound_in_publishing=True)
    if not document.is_readable or any(problem.severity == "error" for problem in document.problems):
        result = resolve(document, installation, policy).result
        return _refused(arguments, report_text(result), result.to_dict())
    text = _text(document, changes)
    resolved = resolve(parse_config(text), installation, policy)
    if (cluster := asked_cluster(arguments, installation)) is not None:
        return start_there(arguments, resolved, text, cluster)
    judged = judge(resolved)
    try:
        meeting = _meeting(arguments, resolved, installation) if judged.result.is_valid else None
    except MeetingError as error:
        return _refused(arguments, str(error), {"error": str(error)})
    start = startable(judged, trace_here, count=count_here)
    if not judged.result.is_valid or start.blocking(anyway=arguments.anyway):
        said = f"{report_text(judged.remarks)}\n\n{start_text(start)}"
        return _refused(arguments, said, judged.result.to_dict() | start.to_dict())
    asked = Asked(resolved, text, changes, meeting)
    try:
        run = asked_once(arguments, lambda accepts: _started(arguments, asked, accepts))
    except PlanDoubtError as error:
        said, remedies = str(error), refusal_lines(error)
        return _refused(arguments, in_lines([said, *remedies]), {"error": said, "remedies": remedies})
    _say_how_it_is(arguments, run, _others(arguments, asked, run, document), start)
    return GOOD


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """`--set`, with `--nodes` as the key that it is."""
    nodes = {} if arguments.nodes is None else {"num_nodes": arguments.nodes}
    return {**dict(map(setting, arguments.set)), **nodes}


def _text(document: ConfigDocument, changes: Mapping[str, Any]) -> str:
    """The config as it is started."""
    text = document.text if document.format == "yaml" else dump_yaml(document.values)
    return model_from_here(with_values(text, changes) if changes else text, {**document.values, **changes})


def _meeting(
    arguments: argparse.Namespace, resolved: ResolvedConfig, installation: Installation
) -> MachineMeeting | None:
    """Where the machines meet, if there are several. Raises `ConfigError` for words of several where one trains."""
    num_nodes = resolved.config.num_nodes
    if num_nodes == 1:
        if arguments.node or arguments.endpoint or arguments.code:
            raise ConfigError(
                N_("`--node`, `--endpoint` and `--code` are for several machines. Say how many with `--nodes`.")
            )
        return None
    if arguments.node:
        return meeting_elsewhere(arguments.node, num_nodes, arguments.endpoint, arguments.code)
    if arguments.code is not None:
        raise ConfigError(
            N_("`--code` is for the other machines. Say which one this is with `--node`, or leave out `--code`.")
        )
    return meeting_here(installation, arguments.endpoint)


def _started(arguments: argparse.Namespace, asked: Asked, accepts: Verdict) -> RunStore:
    """A new run; on another machine than the first, which has trained it before, its own run goes on."""
    options = StartOptions(accepts=accepts, shares=arguments.shares, meeting=asked.meeting)
    installation, meeting = asked.resolved.installation, asked.meeting
    if meeting is not None and meeting.node and (installation.runs / run_id_of(meeting)).exists():
        run = open_recovered(installation.runs, run_id_of(meeting))
        before = run.config_as_changed()
        changes = {key: value for key, value in asked.resolved.values.items() if not same_value(value, before.get(key))}
        again = prepare_resume(run, installation, asked.resolved.policy, changes)
        return resume_run(again, trace_here, options, count=count_here)
    run = launch(StartRequest(asked.resolved, options, arguments.name, asked.text), trace_here, count_here)
    if arguments.tag:
        write_labels(run.path, tags=arguments.tag)
    return run


def _others(arguments: argparse.Namespace, asked: Asked, run: RunStore, document: ConfigDocument) -> list[ShownMachine]:
    """The other machines with their commands: with what was settled here, where the file does not say the same."""
    settled = run.config_as_changed()
    more = {
        key: settled.get(key) for key in ("strategy", "num_processes") if settled.get(key) != document.values.get(key)
    }
    network = asked.resolved.installation.network
    return machines_of(run, network, str(arguments.config), {**asked.changes, **more})


def _say_how_it_is(arguments: argparse.Namespace, run: RunStore, others: list[ShownMachine], start: Startable) -> None:
    attempt = run.read_attempt()
    meeting = attempt.meeting
    if arguments.json:
        met = None if meeting is None else {**meeting.to_json(), "nodes": attempt.num_nodes}
        said: dict[str, Any] = {"run": run.id, "path": str(run.path), "state": run.state().state}
        print_json({**said, "meeting": met, "commands": [one.command for one in others], **start.to_dict()})
        return
    lines = [str(started_message(run)), say(N_("Watch it with: {command}"), command=f"{PROGRAM} runs show {run.id}")]
    if part := part_of(attempt):
        lines.append(str(part))
    if others and meeting is not None:
        lines += _where(arguments, meeting)
        if run.state().state == "queued":
            lines.append(say(N_("This machine is waiting for its devices. Start the others once it has begun.")))
        lines += machine_lines(run, others)
    show(in_lines(lines))


def _where(arguments: argparse.Namespace, meeting: MachineMeeting) -> list[str]:
    """Which of several addresses was taken, where nobody has named one."""
    addresses = network_addresses()
    if arguments.endpoint is not None or len(addresses) < 2:
        return []
    found = ", ".join(f"{one.host} ({one.interface})" for one in addresses)
    return [
        say(
            N_(
                "The other machines reach this one at {endpoint}. Its addresses are {hosts}; choose one with `--endpoint`."
            ),
            endpoint=meeting.endpoint,
            hosts=found,
        )
    ]


def _refused(arguments: argparse.Namespace, said: str, document: dict[str, Any]) -> int:
    print_json(document) if arguments.json else show(said, to_stderr=True)
    return NO
