"""What somebody should know of a run now: alerts while it goes on, and a word when it ends on an open page."""

from __future__ import annotations

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.runs.history.alerts import alerts, health_message
from lora_backend.runs.history.loss_health import LossHealth, health_of
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from pages.parts.run import session
from pages.parts.shell.language import say, t
from pages.parts.widgets.charts import Columns
from pages.parts.widgets.status_badge import state_in_words

ICONS = {
    "nan": "error",
    "divergence": "trending_up",
    "dead": "heart_broken",
    "stall": "hourglass_disabled",
    "disk": "hard_drive",
}
ENDS = {
    "finished": (N_("The run has finished."), "check_circle"),
    "stopped": (N_("The run has stopped."), "stop_circle"),
    "failed": (N_("The run has failed."), "error"),
    "lost": (N_("The run is lost: none of its processes is left."), "help"),
}


def run_alerts(run: RunStore, state: RunState, columns: Columns) -> None:
    """A warning for each; nothing where all is well."""
    for alert in alerts(run, state, columns):
        show = st.error if alert.kind in ("nan", "dead") else st.warning
        show(say(alert.message), icon=f":material/{ICONS[alert.kind]}:")


def how_its_loss_ended(state: RunState, health: LossHealth) -> None:
    """Of a run that has ended: what is wrong with its loss, where that is far above its start or dead."""
    if state.has_ended and health.is_told_beside(state.state):
        show = st.warning if health.code == "rose" else st.error
        show(
            say(health_message(health)), icon=f":material/{'heart_broken' if health.code == 'dead' else 'trending_up'}:"
        )


def say_that_it_ended(run: RunStore, state: RunState) -> None:
    """Once, to whoever had the page open when it did."""
    watched = st.session_state.get(session.WATCHED)
    if state.has_ended:
        st.session_state.pop(session.WATCHED, None)
        if watched == run.id:
            text, icon = ENDS[state.state]
            health = health_of(run)
            if health.is_told_beside(state.state):
                st.toast(state_in_words(state.state, health), icon=":material/warning:", duration="infinite")
            else:
                st.toast(t(text), icon=f":material/{icon}:", duration="infinite")
    else:
        st.session_state[session.WATCHED] = run.id
