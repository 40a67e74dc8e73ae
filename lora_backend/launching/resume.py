"""Resume a run: from its newest whole checkpoint, with changed settings where they can be, as another attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.check import check_config
from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.schema import KEYS
from lora_backend.data.rows import sha256_of_file
from lora_backend.errors import ConfigError, DataChangedError, RunError
from lora_backend.i18n import N_, in_code
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.facts import check_with_facts, refuse_errors
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.roots import bind_paths
from lora_backend.preflight.start_plan import plan_attempt
from lora_backend.preflight.startable import judge_here
from lora_backend.runs.checkpoints.manifest import newest_whole, refuse_earlier
from lora_backend.runs.checkpoints.publication import is_published_by, place_of, publication_of, refuse_what_stands
from lora_backend.runs.checkpoints.starts import refuse_changed_data
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.trainer_command import command_of, launched_here
from lora_backend.runs.record.changes import Classified, classify, config_as_changed
from lora_backend.runs.record.provenance import system_user
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.runs.record.states import RunState
from lora_backend.runs.record.unlinked import refuse_links
from lora_backend.settings import Settings, load_settings, path_of


def resume_run(
    folder: RunFolder,
    settings: Settings,
    trace: Trace,
    changes: Mapping[str, Any] | None = None,
    actor: str | None = None,
    *,
    accepts: Verdict = "fits",
    accept_changed_data: bool = False,
) -> RunFolder:
    """Let a run that has ended go on; queued where its GPUs are taken. `accept_changed_data`: also in data that is not
    what it was launched with, or last read; the trainer refuses any other than what is there now.

    Raises `RunError` for one that has not ended, that was finished and would have nothing to do, whose batches came from a
    caller, or whose newest checkpoint an earlier version wrote; `ConfigError` for changes that cannot be made in the middle; `DataChangedError` for data that was
    changed; `CannotStartError`, `TightError` and `DoesNotFitError` as a launch does. Then the run stays as it is.
    """
    run, number = folder.read_run(), folder.attempt().get("number", 0)
    refuse_links(folder.path)
    state = recover(folder)
    if not state.has_ended:
        raise RunError(N_("The run {id} is {state}. Stop it before you resume it."), id=folder.id, state=state.state)
    if not run.get("argv"):
        raise RunError(N_("The run {id} was trained on a caller's own batches, so only the caller can repeat it."), id=folder.id)  # fmt: skip
    sorted_changes = check_changes(folder, changes or {})
    values = {**config_as_changed(folder), **(changes or {})}
    refuse_nothing_to_do(folder, state, changes or {})
    checkpoint, damaged = newest_whole(folder)
    if checkpoint is not None:
        refuse_earlier(checkpoint)
    publication_of(values, settings, bound=True)  # which raises now, and not when it is trained
    accepted = data_to_accept(folder, values, accept_changed_data=accept_changed_data)
    judge_here(ConfigDocument.of(over_its_own(folder, values)), settings, bound=True).refuse()
    planned = plan_attempt(values, settings, trace, accepts=accepts, shares=bool(folder.attempt().get("shares")))
    folder.begin_attempt(
        "queued",
        after=number,
        **planned,
        **({"accepted_data_sha256": accepted} if accepted else {}),
        argv=command_of(folder),
        actor=actor or system_user(),
        resume_from=checkpoint.name if checkpoint else None,
        damaged=[item.to_json() for item in damaged],
        changes=dict(changes or {}),
        restarts_schedule=sorted(sorted_changes["restarts_schedule"]),
    )
    start_or_queue(folder, settings.workspace)
    return folder


def resume_from_browser(
    folder: RunFolder,
    settings: Settings,
    trace: Trace,
    changes: Mapping[str, Any] | None = None,
    *,
    accepts: Verdict = "fits",
    accept_changed_data: bool = False,
) -> RunFolder:
    """`resume_run` for somebody at a page: what a copied run names must lie in the roots, for nobody here named it.

    Raises what `resume_run` does, and `ModelError`, `DataError` or `ConfigError` for a path outside the roots.
    """
    if not launched_here(folder):
        bind_paths({**config_as_changed(folder), **(changes or {})}, settings)
    return resume_run(folder, settings, trace, changes, accepts=accepts, accept_changed_data=accept_changed_data)


def data_to_accept(folder: RunFolder, values: Mapping[str, Any], *, accept_changed_data: bool) -> str | None:
    """The hash of a run's data that was changed, where that is accepted; None where it was not changed.

    Raises `DataError` for a file that cannot be read, `DataChangedError` for a changed one that is not accepted.
    """
    name = values.get("dataset")
    path = path_of(name) if isinstance(name, str) and name else None
    if path is None:
        return None
    sha256 = sha256_of_file(path)
    try:
        refuse_changed_data(folder, str(name), sha256)
    except DataChangedError:
        if not accept_changed_data:
            raise
        return sha256
    return None


def refuse_nothing_to_do(folder: RunFolder, state: RunState, changes: Mapping[str, Any]) -> None:
    """Raise `RunError` for a finished run that would have no further step."""
    before = config_as_changed(folder)
    if state.state == "finished" and not _goes_further(before, {**before, **changes}, state.step):
        raise RunError(N_("The run {id} has finished. To train on, raise `num_epochs` or `max_steps`."), id=folder.id)


def _goes_further(before: Mapping[str, Any], after: Mapping[str, Any], step: int) -> bool:
    """Whether a run that was finished at `step` would have steps to do."""
    if after.get("max_steps"):
        return bool(after["max_steps"] > step)
    defaults = {"num_epochs": KEYS["num_epochs"].default}
    return (
        bool(before.get("max_steps"))
        or (defaults | dict(after))["num_epochs"] > (defaults | dict(before))["num_epochs"]
    )


def check_changes(folder: RunFolder, changes: Mapping[str, Any]) -> Classified:
    """What changed settings would do to a run that is resumed.

    Raises `ConfigError` where one cannot be made in the middle, or the adapter could not be published with them.
    """
    before = config_as_changed(folder)
    after = {**before, **changes}
    if changes:
        refuse_errors(check_config(after))  # before rows are counted with values that are no numbers
    found = classify(before, after)
    if found["refused"]:
        reasons = [message for _, message in sorted(found["refused"].items())]
        raise ConfigError(
            N_("These settings cannot change in the middle of a run: {keys}. {reasons} Start a new run with them."),
            keys=in_code(sorted(found["refused"])),
            reasons=reasons,
        )
    if changes:
        values = over_its_own(folder, after)
        refuse_errors(check_with_facts(values, bound=True))
        publication = publication_of(values, load_settings(), bound=True)
        if publication is not None:
            refuse_what_stands(publication, may_replace=bool(values.get("overwrite")))
    return found


def over_its_own(folder: RunFolder, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `overwrite` where the adapter that stands in the place is the run's own, of an earlier start."""
    place = place_of(values, load_settings())
    is_own = place is not None and is_published_by(folder, place)
    return {**values, "overwrite": True} if is_own else dict(values)
