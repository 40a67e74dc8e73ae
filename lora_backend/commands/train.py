"""`train`: the trainer that the dashboard starts, in the foreground."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import replace

from lora_backend.commands.asking import asked_once, refusal_lines
from lora_backend.commands.data import count_here
from lora_backend.commands.plan import trace_here
from lora_backend.commands.start_words import start_text
from lora_backend.commands.traced_apart import traced_apart
from lora_backend.commands.words import GOOD, NO, print_json, setting
from lora_backend.config.check_report import report_text
from lora_backend.config.config_text import read_config
from lora_backend.config.config_writing import dump_yaml
from lora_backend.errors import ConfigError, FlightdeckError, WorkerError
from lora_backend.hardware.inventory import read_gpus
from lora_backend.hardware.visible import visible_gpus
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.launch import make_run
from lora_backend.launching.meeting import refuse_without_meeting
from lora_backend.launching.requests import StartRequest
from lora_backend.launching.run_config import bound_before
from lora_backend.modeling.lean import without_collections
from lora_backend.os_errors import in_words
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.placement import PlanDoubtError
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from lora_backend.preflight.start_plan import plan_attempt
from lora_backend.preflight.startable import judge, startable
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.processes.peer_end import PeerFailedError
from lora_backend.runs.processes.run_end import log_of_failure
from lora_backend.runs.processes.signals import StoppedNowError, StopSignals
from lora_backend.runs.processes.trainer_command import environment_of
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.peer_documents import SaidFailure
from lora_backend.runs.record.run_store import RunStore, new_run_id
from lora_backend.runs.record.transitions import refuse_another_trainer
from lora_backend.terminal import in_lines, show

logger = logging.getLogger(__name__)


def train(arguments: argparse.Namespace) -> int:
    """Run the command."""
    installation = this_installation()
    existing = RunStore(arguments.run_dir.resolve(), installation.clock) if arguments.run_dir else None
    if existing and existing.run_json.exists():
        return _train_in(_made_run(existing, arguments), installation, arguments)
    document = read_config(arguments.config)
    set_here = dict(map(setting, arguments.set))
    document = replace(document, values=document.values | set_here)
    resolved = resolve(document, installation, AnyPath(installation.folder))
    resolved.refuse_impossible_paths()
    judged = judge(resolved)
    if judged.result.is_valid:
        refuse_without_meeting(resolved.config.num_nodes, None)
    with traced_apart() as apart:
        # Which GPUs torch may see must be known before it has looked at them.
        hides = bool(visible_gpus(read_gpus().gpus, installation.environment)[0])
        trace, count = (apart.trace, apart.count) if hides else (trace_here, count_here)
        start = startable(judged, trace, count=count)
        if not judged.result.is_valid or start.blocking(anyway=arguments.anyway):
            if arguments.json:
                print_json(judged.result.to_dict() | start.to_dict())
            show(f"{report_text(judged.remarks)}\n\n{start_text(start)}", to_stderr=True)
            return NO
        try:
            attempt = asked_once(arguments, lambda accepts: _planned(resolved, trace, accepts))
        except PlanDoubtError as error:
            if arguments.json:
                print_json(judged.result.to_dict() | start.to_dict() | {"error": str(error)})
            show(in_lines([error, *refusal_lines(error)]), to_stderr=True)
            return NO
    if attempt and not hides and attempt.num_peers == 1:
        attempt = _before_its_plan(attempt)
    path = arguments.run_dir or installation.runs / new_run_id(installation.clock)
    text = None if not set_here and document.format == "yaml" else dump_yaml(dict(resolved.values))
    folder = make_run(StartRequest(resolved, text=text), path.resolve(), sys.orig_argv, attempt)
    return _train_in(folder, installation, arguments, bound=False)


def _planned(resolved: ResolvedConfig, trace: Trace, accepts: Verdict) -> Attempt | None:
    """The attempt with its plan; None where the process that traces fails: then it is planned when it has started, for the
    GPUs as they are seen then."""
    try:
        return plan_attempt(resolved, trace, accepts=accepts)
    except WorkerError as error:
        logger.warning("%s", error)
        return None


def _before_its_plan(attempt: Attempt) -> Attempt | None:
    """Of an attempt of one process that is planned when it has started: what was accepted."""
    return Attempt(accepted=attempt.accepted) if attempt.accepted else None


def _made_run(folder: RunStore, arguments: argparse.Namespace) -> RunStore:
    """The run that a launcher made at `--run-dir`, for this process to train."""
    if arguments.set:
        raise ConfigError(N_("`--set` cannot change a run that already exists. Choose another folder."))
    if folder.exit_json.exists():
        raise ConfigError(N_("The run in {path} has ended. Choose another folder."), path=str(folder.path))
    refuse_another_trainer(folder)  # before torch is loaded; once more when it trains
    return folder


def _train_in(
    folder: RunStore, installation: Installation, arguments: argparse.Namespace, *, bound: bool = True
) -> int:
    code, signals = GOOD, StopSignals(folder, installation)
    try:
        with signals:
            _plan_on_node(folder, installation, bound=bound)
            os.environ.update(environment_of(folder))
            _be_trainer(folder, installation, bound=bound, accept_changed_data=arguments.accept_changed_data)
    except (Exception, StoppedNowError) as error:  # the log has the traceback, the run's state the sentence
        code = NO
        show(
            folder.state().message
            or (in_words(error, installation.workspace) if isinstance(error, OSError) else error),
            to_stderr=True,
        )
        if isinstance(error, PeerFailedError) or not isinstance(error, FlightdeckError | StoppedNowError):
            show(Message(N_("The details are in {path}."), {"path": log_of_failure(folder)}), to_stderr=True)
    state = folder.state()
    if signals.exit_code is not None and state.state != "finished":
        code = signals.exit_code
        if folder.path.parent == installation.runs and state.state == "stopped":
            show(
                Message(N_("Resume it with: python -m lora_backend runs resume {id}"), {"id": folder.id}),
                to_stderr=True,
            )
    if arguments.json:
        print_json(
            {
                "run": folder.id,
                "path": str(folder.path),
                "state": state.state,
                "health": health_of(folder).to_json(),
                "adapter": str(folder.adapter),
            }
        )
    return code


def _plan_on_node(folder: RunStore, installation: Installation, *, bound: bool) -> None:
    """Plan a run that a cluster has brought to this machine: which GPUs there are is known only now.

    A plan that is tight is taken, for nobody is there to be asked. What cannot start is written down as its failure.
    """
    attempt = folder.read_attempt()
    if attempt.cluster is None or attempt.is_planned:
        return
    policy = bound_before(folder, is_bound_in_publishing=bound)
    accepts: Verdict = "over" if attempt.anyway else "tight"
    try:
        resolved = resolve(folder.config_as_changed(), installation.around(folder.path), policy)
        with traced_apart() as apart:
            planned = _planned(resolved, apart.trace, accepts)
    except FlightdeckError as error:
        with folder.changing_status() as status:
            status.attempt.failure = SaidFailure(cause=error.code, message=error.message, time=folder.clock())
        raise
    if planned is not None:
        with folder.changing_attempt() as attempt:
            attempt.learn(planned)


def _be_trainer(folder: RunStore, installation: Installation, *, bound: bool, accept_changed_data: bool) -> None:
    """Train in this process, or be the agent of the several that train."""
    attempt = folder.read_attempt()
    if attempt.num_peers > 1:
        from lora_backend.trainer.agent import Meeting, train_together  # torch: only now, with its GPUs chosen

        node = attempt.meeting.node if attempt.meeting else 0
        meeting, around = Meeting(attempt.num_processes, attempt.num_nodes, node), installation.around(folder.path)
        train_together(folder, around, meeting, bound=bound, accept_changed_data=accept_changed_data)
        return
    with without_collections():
        from lora_backend.trainer.direct_run import train_in_folder

    train_in_folder(folder, bound=bound, accept_changed_data=accept_changed_data)
