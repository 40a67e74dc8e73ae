"""`runs stop`, `runs resume`: what is done to runs, by the same code as the page's buttons."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from typing import Any

from lora_backend.clusters.cluster_documents import ClusterRequest
from lora_backend.commands.asking import asked_once, refusal_lines
from lora_backend.commands.data import count_here
from lora_backend.commands.plan import trace_here
from lora_backend.commands.run_machines import machine_lines
from lora_backend.commands.run_on_cluster import HERE, asked_again
from lora_backend.commands.words import GOOD, NO, print_json, say, setting
from lora_backend.config.diff import ABSENT
from lora_backend.errors import ConfigError, DataChangedError, RunError
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.jobs import restart_job
from lora_backend.launching.meeting import MeetingError, meeting_again
from lora_backend.launching.requests import StartOptions
from lora_backend.launching.resume import Resumption, prepare_resume, resume_run
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.placement import PlanDoubtError
from lora_backend.preflight.startable import CannotStartError
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.processes.recovery import open_recovered, recover
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.changes import Classified
from lora_backend.runs.record.documents import STOP_DEADLINE_S
from lora_backend.runs.record.failures import REMEDIES
from lora_backend.runs.record.peer_documents import MachineMeeting
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.runs.record.surroundings import differences_from_now
from lora_backend.runs.record.transitions import request_stop
from lora_backend.terminal import in_lines, show
from lora_backend.views.machines_view import machines_of, part_of
from lora_backend.views.queue_view import started_message
from lora_backend.views.run_view import EFFECTS, value_text
from lora_backend.views.state_view import damaged_messages, ended_at_latest, state_message, stopping_messages

LOOK_EVERY_S = 0.2


def stop_command(arguments: argparse.Namespace) -> int:
    """Ask a run to save and end, take a queued one out of the queue; 1 where it has ended already."""
    deadline_s = STOP_DEADLINE_S if arguments.deadline is None else arguments.deadline
    if not (math.isfinite(deadline_s) and deadline_s >= 0):
        raise RunError(N_("The deadline must be a number of seconds, 0 or more."))
    run = open_recovered(this_installation().runs, arguments.id)
    before = run.state()
    if before.has_ended:
        message = Message(
            N_("Run {id} has already ended: {state}."),
            {"id": run.id, "state": state_message(before.state, health_of(run))},
        )
        return _answer(arguments, run, before, message.text(), code=NO)
    request_stop(run, deadline_s=deadline_s)
    state = run.state()
    if before.state == "queued" and state.has_ended:
        return _answer(arguments, run, state, say(N_("Run {id} was removed from the queue."), id=run.id))
    latest = ended_at_latest(run)
    asked = " ".join(map(str, stopping_messages(run)))
    if not arguments.wait:
        return _answer(arguments, run, state, asked, {"ended_at_latest": latest})
    if not arguments.json:
        show(asked, flush=True)
    while not (state := recover(run)).has_ended:
        time.sleep(LOOK_EVERY_S)
    sentences = [say(N_("Run {id} has ended: {state}."), id=run.id, state=state_message(state.state, health_of(run)))]
    sentences += [message.text() for message in (state.message, state.remedy) if message]
    code = NO if state.state in ("failed", "lost") else GOOD
    return _answer(arguments, run, state, " ".join(sentences), code=code)


def resume_command(arguments: argparse.Namespace) -> int:
    """Let a run go on, with changed settings where they can be; 1 where it cannot."""
    installation = this_installation()
    run = open_recovered(installation.runs, arguments.id)
    if run.read_record().kind != "train":
        return _restart(arguments, run, installation)
    changes, cluster = dict(map(setting, arguments.set)), asked_again(arguments, run, installation)
    before = run.config_as_changed()
    asked = prepare_resume(run, installation, AnyPath(installation.folder, is_bound_in_publishing=True), changes)
    try:
        meeting = _meeting(arguments, run, asked)
    except MeetingError as error:
        return _answer(arguments, run, run.state(), str(error), code=NO)
    found = asked.classified
    differs = differences_from_now(run, asked.config.model.path if asked.config.model else None)
    try:
        asked_once(
            arguments,
            lambda accepts: resume_run(
                asked,
                trace_here,
                _options(arguments, accepts, meeting, cluster),
                accept_changed_data=arguments.accept_changed_data,
                count=count_here,
            ),
        )
    except PlanDoubtError as error:
        remedies = refusal_lines(error)
        if not arguments.json:
            return _answer(arguments, run, run.state(), in_lines([error, *remedies]), code=NO)
        return _answer(arguments, run, run.state(), str(error), {"remedies": remedies}, code=NO)
    except DataChangedError as error:
        remedy = REMEDIES[error.code]
        return _answer(arguments, run, run.state(), f"{error} {say(remedy)}", {"cause": error.code}, code=NO)
    except CannotStartError as error:
        blockers = [blocker.to_dict() for blocker in error.blockers]
        return _answer(arguments, run, run.state(), str(error), {"blockers": blockers}, code=NO)
    except RunError as error:
        return _answer(arguments, run, run.state(), str(error), code=NO)
    attempt = run.read_attempt()
    others = [message.text() for message in differs]
    machines = machines_of(run, installation.network)
    text = in_lines(
        [
            *others,
            *_change_lines(before, changes, found),
            *_start_lines(run, attempt),
            *machine_lines(run, machines),
        ]
    )
    kinds = {kind: {key: message.text() for key, message in keys.items()} for kind, keys in found.items()}
    damaged = [item.to_json() for item in attempt.damaged]
    more: dict[str, Any] = {"number": attempt.number, "resume_from": attempt.resume_from, "damaged": damaged}
    more |= {"changes": kinds, "differences": others}
    if attempt.meeting is not None:
        more |= {"meeting": attempt.meeting.to_json(), "commands": [one.command for one in machines]}
    return _answer(arguments, run, run.state(), text, more)


def _options(
    arguments: argparse.Namespace, accepts: Verdict, meeting: MachineMeeting | None, cluster: ClusterRequest | None
) -> StartOptions:
    return StartOptions(
        accepts=accepts,
        meeting=meeting,
        cluster=cluster,
        from_step=arguments.from_step,
        here=arguments.on == HERE,
    )


def _meeting(arguments: argparse.Namespace, run: RunStore, asked: Resumption) -> MachineMeeting | None:
    """Where the machines of a run meet again; None where one goes on alone."""
    if asked.config.config.num_nodes > 1:
        return meeting_again(run, asked.config.installation, arguments.endpoint, arguments.code)
    if arguments.endpoint or arguments.code:
        raise ConfigError(
            N_("`--endpoint` and `--code` are for several machines, but {id} continues on one."), id=run.id
        )
    return None


def _restart(arguments: argparse.Namespace, job: RunStore, installation: Installation) -> int:
    """A job is not gone on with: it is done again, as another one."""
    if arguments.set:
        raise RunError(
            N_("`--set` changes the settings of a training run, but {id} is not one. Start a new run."), id=job.id
        )
    if arguments.from_step is not None:
        raise RunError(N_("`--from` names a checkpoint of a training run, but {id} has none."), id=job.id)
    try:
        new = restart_job(job, installation)
    except RunError as error:
        return _answer(arguments, job, job.state(), str(error), code=NO)
    text = say(N_("Started again as {id}."), id=new.id)
    return _answer(arguments, new, new.state(), text, {"restarted": job.id})


def _answer(
    arguments: argparse.Namespace,
    run: RunStore,
    state: RunState,
    text: str,
    more: Mapping[str, Any] | None = None,
    *,
    code: int = GOOD,
) -> int:
    if arguments.json:
        said = {"error" if code == NO else "message": text}
        print_json({"run": run.id, "path": str(run.path), "state": state.state, **said, **(more or {})})
    else:
        show(text)
    return code


def _change_lines(before: Mapping[str, Any], changes: Mapping[str, Any], found: Classified) -> list[str]:
    return [
        f"{key}: {value_text(key, before.get(key, ABSENT))} → {value_text(key, changes[key])} ({say(EFFECTS[kind])}) {message}"
        for kind in found
        for key, message in found[kind].items()
    ]


def _start_lines(run: RunStore, attempt: Attempt) -> list[str]:
    checkpoint = attempt.resume_from
    if part_of(attempt) is not None:
        begins = say(N_("Run {id} continues from the checkpoint that the first machine sends."), id=run.id)
    elif checkpoint:
        begins = say(N_("Run {id} continues from {checkpoint}."), id=run.id, checkpoint=checkpoint)
    else:
        begins = say(N_("Run {id} has no complete checkpoint, so it starts again from the first step."), id=run.id)
    return [*map(str, damaged_messages(attempt.damaged)), begins, str(started_message(run))]
