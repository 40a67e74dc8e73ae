"""Remedies with what they save and cost, each one click away; and the largest batch and longest row that fit."""

from __future__ import annotations

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.planning.advice import Advice, advise, best_first
from lora_backend.planning.limits import largest_batch, longest_row
from lora_backend.planning.targets import GIB
from pages.parts import state_keys
from pages.parts.failing import safely
from pages.parts.formats import gib
from pages.parts.language import say, t
from pages.parts.markdown import Markdown, code, joined
from pages.parts.plan_controls import set_param
from pages.parts.plan_question import as_text
from pages.parts.plan_work import Work, best_of

WORTH_SHOWING_BYTES = 0.05 * GIB
"""What would be shown as 0.0 GiB is no remedy."""


def may_trace(section: str, label: Markdown) -> bool:
    """Whether the reader asked for the further traces of a section; else the button that does. Holds for the session."""
    asked: set[str] = st.session_state.setdefault(state_keys.PLAN_TRACED, set())
    if section in asked:
        return True
    st.button(label, icon=":material/search:", key=f"trace-{section}", on_click=safely(lambda: asked.add(section)))
    return False


def show_advice(work: Work) -> None:
    """Remedies that are known at once, and a button for those that need a trace first."""
    place = st.container()
    traced = may_trace("advice", t(N_("Look at the remedies that need another trace (a few seconds each)")))
    # Remedies are planned at their best, so they are held against the best, not against a placement by hand.
    found = best_first(advise(work.planner if traced else work.known, work.config, best_of(work)))
    advice = [remedy for remedy in found if remedy.saves_bytes >= WORTH_SHOWING_BYTES]
    with place:
        if work.is_by_hand:
            st.caption(t(N_("Counted from the best placement, not from the one made by hand.")))
        if not advice:
            st.info(t(N_("None of the remedies whose cost is known saves anything here.")), icon=":material/info:")
        for remedy in advice:
            _remedy(work, remedy)


def _remedy(work: Work, remedy: Advice) -> None:
    change = ", ".join(f"{key}: {as_text(value)}" for key, value in remedy.change.items())
    with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(width="stretch", gap=None):
            saved = N_("saves {size} on all devices together") if change else N_("takes {size} off the others")
            st.markdown(f"**{code(change) if change else t(N_('One more GPU'))}** · {t(saved, size=gib(remedy.saves_bytes))}")  # fmt: skip
            st.caption(f"{_time(remedy)} · {say(remedy.price)}")
        with st.container(width="content", horizontal=True, vertical_alignment="center"):
            if remedy.fits:
                st.badge(t(N_("then it fits")), color="green", icon=":material/check:")
            else:
                st.badge(t(N_("not enough alone")), color="orange", icon=":material/close:")
            st.button(t(N_("Apply")), key=f"apply-{remedy.code}", on_click=safely(_apply), args=(work, remedy))


def _time(remedy: Advice) -> Markdown:
    if remedy.slowdown is None:
        return t(N_("changes what is learned, not only how fast"))
    percent = round(100 * (remedy.slowdown - 1))
    if percent >= 2:
        return t(N_("about {percent} % slower"), percent=percent)
    return t(N_("about {percent} % faster"), percent=-percent) if percent <= -2 else t(N_("about as fast"))


def _apply(work: Work, remedy: Advice) -> None:
    for key, value in remedy.change.items():
        set_param(key, value, work.question.default(key))
    if not remedy.change:
        new = remedy.plan.devices[-1].target
        words = [target.spec.name if target.spec else f"{target.total_bytes / GIB:g}" for target in work.planner.targets]  # fmt: skip
        words.append(new.spec.name if new.spec else f"{new.total_bytes / GIB:g}")
        set_param(state_keys.GPUS, ",".join(words))


def show_limits(work: Work) -> None:
    """The largest batch and the longest row, for these very settings."""
    asked = ({**work.question.params, "lang": ""}, work.question.base)
    found = st.session_state.get(state_keys.PLAN_LIMITS)
    if st.button(t(N_("Largest batch and longest row that fit")), icon=":material/straighten:", key="limits"):
        batch, row = largest_batch(work.planner, work.config), longest_row(work.planner, work.config)
        found = st.session_state[state_keys.PLAN_LIMITS] = (asked, batch, row)
    if found is None or found[0] != asked:
        return
    _, batch, row = found
    said = [
        t(N_("At {length} tokens a row, up to **{count}** {count:row fits in a pass|rows in a pass fit}."), length=work.config.max_length, count=batch),
        t(N_("At {count} {count:row|rows} in a pass, rows of up to **{length}** tokens fit."), count=work.config.batch_size, length=row),
    ]  # fmt: skip
    st.markdown(joined("  \n", said))
