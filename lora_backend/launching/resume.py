"""Resume a run: from its newest whole checkpoint or one that is named, with changed settings where they can be, as another attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.config.check import check_config
from lora_backend.config.schema import KEYS
from lora_backend.config.validation import refuse_errors
from lora_backend.errors import ConfigError, DataChangedError, RunError
from lora_backend.i18n import N_, in_code
from lora_backend.installation import Installation
from lora_backend.launching.meeting import refuse_without_meeting, settled_for_all
from lora_backend.launching.on_cluster import attempt_on, cluster_before, judged_for
from lora_backend.launching.requests import StartOptions
from lora_backend.launching.run_config import resolve_run, stands_in_its_place
from lora_backend.preflight.data_asked import Count
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.start_plan import plan_attempt
from lora_backend.preflight.startable import refuse_rows
from lora_backend.runs.checkpoints.manifest import Damaged, checkpoints_of, newest_whole, refuse_earlier, step_of
from lora_backend.runs.checkpoints.publication import publication_of, refuse_what_stands
from lora_backend.runs.checkpoints.starts import refuse_changed_data
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.trainer_command import command_of
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.changes import Classified, classify
from lora_backend.runs.record.documents import EARLY_STOPPING
from lora_backend.runs.record.meetings import first_run_of
from lora_backend.runs.record.provenance import system_user
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.runs.record.transitions import begin_attempt
from lora_backend.runs.record.unlinked import refuse_links

STOPS_EARLY = {
    "early_stopping_patience", "early_stopping_threshold", "metric_for_best_model", "greater_is_better",
}  # fmt: skip
"""Keys by which a run stops early, or would not."""


@dataclass(frozen=True)
class Resumption:
    """A run with the settings that it would go on with."""

    run: RunStore
    number: int
    """Of the start that was its newest then: what was made ready is not used after another."""
    changes: Mapping[str, Any]
    classified: Classified
    """What each of the changes does."""
    config: ResolvedConfig
    """The whole config with them."""


def prepare_resume(
    run: RunStore, installation: Installation, policy: PathPolicy, changes: Mapping[str, Any] | None = None
) -> Resumption:
    """What changed settings would do to a run that is resumed, and what its config names here.

    Raises `ConfigError` where a change cannot be made in the middle, or the adapter could not be published with it;
    `ModelError`, `DataError` or `ConfigError` for a run that was copied here and names a path that `policy` forbids.
    """
    refuse_links(run.path)
    number, changes, before = run.read_attempt().number, dict(changes or {}), run.config_as_changed()
    after = {**before, **changes}
    if changes:
        refuse_errors(check_config(after))  # before rows are counted with values that are no numbers
    classified = classify(before, after)
    if classified["refused"]:
        reasons = [message for _, message in sorted(classified["refused"].items())]
        raise ConfigError(
            N_("These settings cannot change during a run: {keys}. {reasons} Start a new run with them."),
            keys=in_code(sorted(classified["refused"])),
            reasons=reasons,
        )
    overwrites = {"overwrite": True} if stands_in_its_place(run, after, installation) else {}
    resolved = resolve_run(run, {**after, **overwrites}, installation, policy)
    if changes:
        refuse_errors(resolved.result)
        publication = publication_of(resolved.values, installation, bound=True)
        if publication is not None:
            refuse_what_stands(publication, may_replace=bool(resolved.values.get("overwrite")))
    return Resumption(run, number, changes, classified, resolved)


def resume_run(
    asked: Resumption,
    trace: Trace,
    options: StartOptions | None = None,
    *,
    accept_changed_data: bool = False,
    count: Count | None = None,
) -> RunStore:
    """Let a run that has ended go on; queued where its GPUs are taken. `accept_changed_data`: also in data that is not
    what it was launched with, or last read; the trainer refuses any other than what is there now. `count`: its rows are
    counted first, unless they were before.

    Later checkpoints than the one that it goes on from are put aside. Raises `ConfigError` for several machines that nobody said where to meet, `RunError` for one that has not ended, that was finished and would have nothing to do, whose batches came
    from a caller, or whose newest checkpoint an earlier version wrote; `DataChangedError` for data that was changed; `CannotStartError`, `TightError` and `DoesNotFitError`
    as a launch does. Then the run stays as it is.
    """
    run, resolved, options = asked.run, asked.config, options or StartOptions()
    before = run.read_attempt()
    _refuse_elsewhere(run, before, resolved)
    refuse_without_meeting(resolved.config.num_nodes, options.meeting)
    _refuse_what_cannot_go_on(asked, from_step=options.from_step)
    checkpoint, damaged = _checkpoint(run, options.from_step)
    if checkpoint is not None:
        refuse_earlier(checkpoint)
    publication_of(resolved.values, resolved.installation, bound=True)  # which raises now, and not when it is trained
    accepted = data_to_accept(run, resolved, accept_changed_data=accept_changed_data)
    cluster = None if options.here else options.cluster or cluster_before(run, resolved.installation)
    judged = judged_for(resolved, cluster)
    judged.refuse()
    refuse_rows(judged, count)
    if cluster is None:
        planned = plan_attempt(resolved, trace, accepts=options.accepts, shares=before.shares, meeting=options.meeting)
    else:
        planned = attempt_on(cluster, resolved, options)
    asks = Attempt(
        argv=command_of(run, resolved.installation),
        actor=options.actor or system_user(),
        resume_from=checkpoint.name if checkpoint else None,
        damaged=[item.record() for item in damaged],
        changes={**asked.changes, **_settled_anew(asked, planned)},
        restarts_schedule=sorted(asked.classified["restarts_schedule"]),
    )
    if accepted:
        asks.accepted_data_sha256 = accepted
    begin_attempt(run, "queued", planned.asked_like(asks), after=asked.number)
    start_or_queue(run, resolved.installation.workspace)
    return run


def _settled_anew(asked: Resumption, planned: Attempt) -> dict[str, Any]:
    """What has the same value on all machines, and another one than before."""
    before = asked.run.config_as_changed()
    return {key: value for key, value in settled_for_all(planned).items() if before.get(key) != value}


def _refuse_elsewhere(run: RunStore, before: Attempt, resolved: ResolvedConfig) -> None:
    """Raise `RunError` where the first of several machines alone can go on: what there is to go on from lies there."""
    if before.meeting is None or before.meeting.node == 0 or resolved.config.num_nodes > 1:
        return
    raise RunError(
        N_("The checkpoints of run {id} are on the first machine. Resume {first} there."),
        id=run.id,
        first=first_run_of(before.meeting.code) or before.meeting.endpoint,
    )


def _checkpoint(run: RunStore, from_step: int | None) -> tuple[Path | None, list[Damaged]]:
    """What to go on from, None for the first step, and the newer ones that are damaged. Raises `RunError` where the one
    that is named is not there, or not whole."""
    if from_step is None:
        return newest_whole(run)
    if from_step == 0:
        return None, []
    found, _ = newest_whole(run, before=from_step + 1)
    if found is None or step_of(found) != from_step:
        raise RunError(
            N_("Run {id} has no complete checkpoint at step {step}. It has: {steps}."),
            id=run.id,
            step=from_step,
            steps=", ".join(str(step_of(path)) for path in checkpoints_of(run)) or "–",
        )
    return found, []


def _refuse_what_cannot_go_on(asked: Resumption, from_step: int | None = None) -> None:
    run = asked.run
    made = run.read_record()
    refuse_links(run.path)
    state = recover(run)
    if not state.has_ended:
        raise RunError(N_("Run {id} is {state}. Stop it before you resume it."), id=run.id, state=state.state)
    if not made.argv:
        raise RunError(
            N_("Run {id} was trained on a caller's own batches, so only the caller can repeat it."), id=run.id
        )
    if from_step is None:
        refuse_nothing_to_do(run, state, asked.changes)


def data_to_accept(run: RunStore, resolved: ResolvedConfig, *, accept_changed_data: bool) -> str | None:
    """The hash of a run's data that was changed, where that is accepted; None where it was not changed.

    Raises `DataError` for a file that cannot be read, `DataChangedError` for a changed one that is not accepted.
    """
    if any(rows.path is None for rows in resolved.training_sets):
        return None
    try:
        refuse_changed_data(run, resolved.read_sets())
    except DataChangedError:
        if not accept_changed_data:
            raise
        return resolved.data_sha256
    return None


def refuse_nothing_to_do(folder: RunStore, state: RunState, changes: Mapping[str, Any]) -> None:
    """Raise `RunError` for a finished run that would have no further step."""
    before = folder.config_as_changed()
    if state.state != "finished":
        return
    if state.cause == EARLY_STOPPING:
        if not STOPS_EARLY & changes.keys():
            raise RunError(
                N_("Run {id} stopped early. To train longer, raise `early_stopping_patience`, or remove it."),
                id=folder.id,
            )
    elif not _goes_further(before, {**before, **changes}, state.step):
        raise RunError(N_("Run {id} has finished. To train longer, raise `num_epochs` or `max_steps`."), id=folder.id)


def _goes_further(before: Mapping[str, Any], after: Mapping[str, Any], step: int) -> bool:
    """Whether a run that was finished at `step` would have steps to do."""
    if after.get("max_steps"):
        return bool(after["max_steps"] > step)
    defaults = {"num_epochs": KEYS["num_epochs"].default}
    return (
        bool(before.get("max_steps"))
        or (defaults | dict(after))["num_epochs"] > (defaults | dict(before))["num_epochs"]
    )
