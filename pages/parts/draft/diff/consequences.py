"""What each difference really does, worked out when it is asked for; it may wait for a trace of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.drafts import Draft
from lora_backend.errors import FlightdeckError
from lora_backend.formats import size
from lora_backend.i18n import N_, Message, Plural
from lora_backend.models.refused_targets import adaptable
from lora_backend.preflight.consequences import Consequence, consequences
from lora_backend.preflight.plan_question import planner_for
from pages.parts.draft import session
from pages.parts.draft.diff.bases import Base
from pages.parts.draft.facts import known_facts
from pages.parts.plan.trace import trace
from pages.parts.shell.language import say, t
from pages.parts.shell.services import resolved

MIN_STEP_CHANGE = 0.005
"""A step that is less than half a percent longer or shorter is the same."""


def asked_consequences(
    draft: Draft, document: ConfigDocument, base: Base, keys: Sequence[str]
) -> dict[str, str] | None:
    """Key → what it does, in words; None where nobody asked for this config and base."""
    question = (draft.id, document.text, base.id)
    asked = st.button(
        t(N_("Show the effect of each change")),
        icon=":material/balance:",
        key="consequences",
        disabled=not keys,
        help=t(N_("Plans the run with and without each key: memory, time, trained parameters, steps, ranks.")),
    )
    if asked:
        st.session_state[session.CONSEQUENCES] = (question, *_work_out(document.values, base.values, keys))
        st.rerun()  # the column that it stands in has to be wider
    known, found, reason = st.session_state.get(session.CONSEQUENCES, (None, {}, None))
    if known != question:
        return None
    if reason is not None:
        st.caption(t(N_("Without memory and time: {reason}"), reason=say(reason)))
    if not found:
        st.caption(t(N_("Available once the errors are fixed.")))
        return None
    return {key: in_words(consequence) for key, consequence in found.items()}


def are_shown(draft: Draft, text: str) -> bool:
    """Whether this text's differences have their consequences beside them, and so need room."""
    question, found, _ = st.session_state.get(session.CONSEQUENCES, ((), {}, None))
    return bool(found) and question[:2] == (draft.id, text)


def in_words(consequence: Consequence) -> str:
    """One line; a dash where nothing that is counted changes."""
    if consequence.without_effect is not None:
        return "⊘ " + t(N_("without effect: {reason}"), reason=say(consequence.without_effect))
    parts = []
    if consequence.bytes_on_fullest:
        parts.append(t(N_("{size} on the busiest device"), size=size(consequence.bytes_on_fullest, sign=True)))
    if consequence.step_time and abs(consequence.step_time - 1) > MIN_STEP_CHANGE:
        parts.append(t(N_("a step takes ×{factor}"), factor=f"{consequence.step_time:.2f}"))
    if consequence.trainable:
        parts.append(
            t(Plural("{count} trained parameter", "{count} trained parameters"), count=f"{consequence.trainable:+,}")
        )
    if consequence.steps:
        parts.append(t(Plural("{count} step", "{count} steps"), count=f"{consequence.steps:+,}"))
    if consequence.layers:
        parts.append(
            t(Plural("another rank in {count} layer", "another rank in {count} layers"), count=len(consequence.layers))
        )
    return "; ".join(parts) or "–"


def _work_out(
    values: Mapping[str, Any], base: Mapping[str, Any], keys: Sequence[str]
) -> tuple[dict[str, Consequence], Message | None]:
    """What was found, and why there is no plan in it."""
    config = resolved(values)
    known = known_facts(config)
    planner, reason = None, None
    try:
        planner, _ = planner_for(config.config_json, trace, config.installation)
    except FlightdeckError as error:
        reason = error.message
    with st.spinner(t(N_("Planning with and without each key …"))):
        found = consequences(
            values,
            base,
            keys,
            planner,
            linear_names=adaptable(known.model.linear_names, known.model.model_type) if known.model else (),
            num_rows=known.data.num_rows if known.data else None,
        )
    return found, reason
