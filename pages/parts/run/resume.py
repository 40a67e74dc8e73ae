"""A run that has ended before it was done: go on from its newest checkpoint, with other settings, or as a new draft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import dump_yaml, with_values
from lora_backend.config.drafts import new_draft
from lora_backend.config.validation import ErrorsInConfigError
from lora_backend.errors import FlightdeckError
from lora_backend.formats import number
from lora_backend.i18n import N_
from lora_backend.launching.resume import refuse_nothing_to_do
from lora_backend.launching.run_config import resolve_run
from lora_backend.planning.advice import Advice
from lora_backend.preflight.after_oom import OUT_OF_MEMORY, remedies
from lora_backend.runs.history.calmer_start import CalmerStart, calmer_start
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.views.machines_view import part_of
from lora_backend.views.plan_view import advice_text, change_text
from lora_backend.views.run_view import EFFECTS
from pages.parts.run import session
from pages.parts.run.go_on import Refused, prepared, refused_of, resume
from pages.parts.shell import addresses
from pages.parts.shell.language import explain, say, t
from pages.parts.shell.markdown import code, escape
from pages.parts.shell.navigation import CONFIG
from pages.parts.shell.services import browser_policy, installation, resolved
from pages.parts.widgets.findings import show_finding
from pages.parts.widgets.meeting_fields import meeting_fields
from pages.parts.widgets.tracing import trace_within

MARKS = {
    "safe": ":green[✓ {effect}]",
    "restarts_schedule": ":orange[↻ {effect}]",
    "refused": ":red[✗ {effect}]",
}


ALONE = {"num_nodes": 1, "strategy": "auto", "num_processes": None}
"""Changes with which a run of several machines goes on with the GPUs of the first."""


def run_again(run: RunStore, state: RunState) -> None:
    """Resume, resume with other settings, open as a draft; after an out-of-memory what the planner proposes."""
    refused = refused_of(run, state)
    is_possible = can_resume(run)
    if part_of(run.read_attempt()) is not None:
        st.caption(t(N_("Resume it on the first machine; its page then shows the command for this one.")))
    is_shared = is_possible and _asked_where_they_meet(run)
    changes: dict[str, Any] = {}
    calmer = calmer_start(run, health_of(run)) if is_possible else None
    with st.container(horizontal=True):
        calmed = calmer is not None and _calmer_button(calmer)
        pressed = (
            is_possible
            and state.state != "finished"
            and st.button(
                t(N_("Resume")), icon=":material/resume:", key="resume_run", type="secondary" if calmer else "primary"
            )
        )
        alone = (
            is_shared
            and state.state != "finished"
            and st.button(t(N_("Resume on this machine alone")), key="resume_alone")
        )
        if is_possible:
            with st.popover(t(N_("Resume with changes")), icon=":material/tune:"):
                changes, changed = _changes(run, state)
        else:
            changed = False
        draft = st.button(t(N_("Open as a draft")), icon=":material/content_copy:", key="clone_run")
        confirmed = refused is not None and is_possible and _confirm_button(refused)
    if refused is not None and refused.sentence:
        st.warning(say(refused.sentence), icon=":material/dataset:" if refused.is_for_data else ":material/memory_alt:")
    if state.cause in OUT_OF_MEMORY:
        _remedies(run, can_resume=is_possible)
    if draft:
        _open_as_draft(run)
    elif changed:
        resume(run, changes)
    elif confirmed and refused is not None:
        resume(run, refused.changes, **refused.confirm)
    elif calmed and calmer is not None:
        resume(run, {"learning_rate": calmer.learning_rate}, from_step=calmer.step)
    elif pressed or alone:
        resume(run, ALONE if alone else None)


def _calmer_button(calmer: CalmerStart) -> bool:
    rate = number(calmer.learning_rate)
    if calmer.step:
        label = t(N_("Resume from step {step} with half the learning rate ({rate})"), step=calmer.step, rate=rate)
    else:
        label = t(N_("Start over with half the learning rate ({rate})"), rate=rate)
    return st.button(label, icon=":material/trending_down:", key="resume_calmer", type="primary")


def can_resume(run: RunStore) -> bool:
    """Whether it can go on from this page: not one of a caller's own batches, nor where another machine leads."""
    return bool(run.read_record().argv) and part_of(run.read_attempt()) is None


def is_asked_again(run: RunStore, state: RunState) -> bool:
    """Whether a resume of it waits to be confirmed."""
    return refused_of(run, state) is not None


def _asked_where_they_meet(run: RunStore) -> bool:
    """Whether several machines train a run; then where they meet again is asked."""
    num_nodes = run.config_as_changed().get("num_nodes")
    if not isinstance(num_nodes, int) or num_nodes < 2:
        return False
    before = run.read_attempt().meeting
    endpoint = meeting_fields(f"meeting-{run.id}", num_nodes, None if before is None else before.endpoint)
    st.session_state[session.ENDPOINT] = (run.id, endpoint)
    return True


def _confirm_button(refused: Refused) -> bool:
    if refused.is_for_data:
        label = t(N_("Resume with the changed data"))
        return st.button(label, icon=":material/dataset:", key="resume_changed_data")
    return st.button(t(N_("Start anyway")), icon=":material/rocket_launch:", key="resume_anyway")


def _changes(run: RunStore, state: RunState) -> tuple[dict[str, Any], bool]:
    """Settings to resume with, and whether that was asked for; what each of them does is said before."""
    st.caption(t(N_("Keys and their new values, as in a config. Keys that cannot change during a run are rejected.")))
    text = st.text_area(
        t(N_("Settings")),
        key=f"changes-{run.id}",
        placeholder="max_time: 2\nnum_epochs: 4",
        label_visibility="collapsed",
    )
    document = parse_config(text)
    if document.problems:
        st.error(say(document.problems[0].message), icon=":material/error:")
    if document.problems or not document.values:
        return {}, False
    changes: dict[str, Any] = {}
    found, error = {}, None
    try:
        named = resolved(document)
        named.refuse_escapes()
        changes = dict(named.values)
        found = prepared(run, changes).classified
        refuse_nothing_to_do(run, state, changes)
    except FlightdeckError as refusal:
        error = refusal
    for effect, keys in found.items():
        for key, why in keys.items():
            st.markdown(f"{code(key)} {t(MARKS[effect], effect=t(EFFECTS[effect]))}: {say(why)}")
    if isinstance(error, ErrorsInConfigError):
        for finding in error.findings:
            show_finding(finding)
    elif error is not None:
        st.error(say(error.message), icon=":material/block:")
    elif not any(found.values()):
        st.caption(t(N_("These are the run's own values: nothing changes.")))
    pressed = st.button(
        t(N_("Resume with these changes")),
        type="primary",
        key="resume_changed",
        disabled=error is not None or not any(found.values()),
    )
    return changes, pressed


def _remedies(run: RunStore, *, can_resume: bool) -> None:
    """What the planner proposes instead; asked for, because it may have to look at the model first."""
    known = st.session_state.get(session.REMEDIES)
    if known is None or known[0] != run.id:
        if not st.button(t(N_("What would fit?")), icon=":material/memory_alt:", key="ask_planner"):
            return
        with st.status(t(N_("Planning what each device will hold …"))) as status:
            try:
                config = resolve_run(run, run.config_as_changed(), installation(), browser_policy())
                found = remedies(config, trace_within(status))
            except (FlightdeckError, OSError) as error:
                status.update(label=t(N_("There is no plan.")), state="error", expanded=True)
                st.error(explain(error))
                return
        known = (run.id, found)
        st.session_state[session.REMEDIES] = known
    if not known[1]:
        st.info(t(N_("The planner knows no way to save memory here. Use a smaller model or a larger GPU.")))
    for place, remedy in enumerate(known[1][:4]):
        _remedy(run, remedy, place, can_resume=can_resume)


def _remedy(run: RunStore, remedy: Advice, number: int, *, can_resume: bool) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(width=430):
            st.caption(escape(advice_text(remedy)))
        with st.container(horizontal=True, width="content"):
            if (
                can_resume
                and _may_change(run, remedy.change.as_values())
                and st.button(t(N_("Resume with {change}"), change=change_text(remedy)), key=f"resume-remedy-{number}")
            ):
                resume(run, remedy.change.as_values())
            if st.button(t(N_("Use in a draft")), key=f"draft-remedy-{number}", icon=":material/content_copy:"):
                _open_as_draft(run, remedy.change)


def _may_change(run: RunStore, changes: Mapping[str, Any]) -> bool:
    try:
        prepared(run, changes)
    except FlightdeckError:
        return False
    return True


def _open_as_draft(run: RunStore, changes: Mapping[str, Any] | None = None) -> None:
    """The run's config as a draft of its own, with what its later starts changed."""
    now, before = run.config_as_changed(), run.read_record().config
    # Somebody may have taken the file out of the folder; its values are in run.json too.
    text = run.config_text() or dump_yaml(before)
    changed = {key: value for key, value in now.items() if before.get(key) != value}
    draft = new_draft(installation().drafts, with_values(text, {**changed, **(changes or {})}))
    st.switch_page(CONFIG, query_params={addresses.DRAFT: draft.id, addresses.BASE: f"run:{run.id}"})
