"""What a plan comes to: the verdict, what it rests on, and what the last change did."""

from __future__ import annotations

from typing import Any

import streamlit as st

from lora_backend.formats import gib
from lora_backend.i18n import N_
from lora_backend.planning.cost.memory import RESERVE, Memory
from lora_backend.planning.report import notes, tone, verdict
from lora_backend.planning.verdict import Verdict
from lora_backend.views.plan_view import strategy_message
from pages.parts.plan import session
from pages.parts.plan.strip import device_name
from pages.parts.plan.work import Work
from pages.parts.shell.language import say, say_plain, sentences, t, t_plain
from pages.parts.shell.markdown import Markdown, bold, joined
from pages.parts.widgets.tones import BOXES

ICONS = {"good": "check_circle", "doubt": "warning", "bad": "error"}
NOW: dict[Verdict, str] = {
    "fits": N_("**now it fits**"),
    "tight": N_("**now it is tight**"),
    "over": N_("**now it does not fit**"),
}


def show_verdict(work: Work) -> None:
    """Whether it fits comes first, then what a reader must know beside the figures."""
    plan = work.plan
    colour = tone(plan)
    BOXES[colour](f"**{say(verdict(plan))}**  \n{_facts(work)}", icon=f":material/{ICONS[colour]}:")
    for note in [*([work.refused] if work.refused else []), *notes(plan, work.config)]:
        st.warning(say(note), icon=":material/info:")
    if work.message is not None:
        st.caption(say(work.message))


def _facts(work: Work) -> Markdown:
    plan, profile, strategy = work.plan, work.plan.profile, say_plain(strategy_message(work.plan))
    parts = [
        strategy[:1].upper() + strategy[1:] + (f" ({t_plain(N_('placed by hand'))})" if work.is_by_hand else ""),
        t(N_("{total:big} parameters, {trained:big} of them trained"), total=profile.parameters, trained=profile.trainable(plan.workload.size.rank)),
        profile.settings.precision + (f", {profile.settings.quantization}" if profile.settings.quantization else ""),
    ]  # fmt: skip
    return joined(" · ", parts)


def show_basis(work: Work) -> None:
    """How the figures were found, and what is assumed in them."""
    profile, memory = work.plan.profile, Memory(work.plan.profile, work.plan.workload)
    percent, reserve = f"{100 * profile.expected_error:.0f}", f"{100 * RESERVE:.0f}"
    said = [
        t(N_("Traced from the model's own training step; tensors are expected within {percent}%."), percent=percent)
        if profile.method != "formula"
        else t(N_("Weights and adapter are counted; activations come from a formula. Expected within {percent}%."), percent=percent),
        t(N_("Assumed besides tensors: {context} for CUDA context and cuBLAS on each GPU in use, and {reserve}% of temporary tensors for fragmentation."), context=gib(memory.overhead_bytes), reserve=reserve)
        if memory.overhead_bytes
        else t(N_("Assumed besides tensors: {reserve}% of temporary tensors for fragmentation."), reserve=reserve),
        t(N_("A plan is tight if it would no longer fit with that error and twice the overhead.")),
        t(N_("Every row is planned as {length} tokens long."), length=f"{work.config.max_length:,}"),
    ]  # fmt: skip
    if profile.settings.uneven and profile.taken.batching == "padded":
        said.append(t(N_("Several rows of unequal length are padded and need an attention mask; that is counted.")))
    st.caption(sentences(said))


def show_effect(work: Work) -> None:
    """What the last change did to the fullest device, and how many weights change places."""
    now = _state(work)
    last, before = st.session_state.get(session.PLAN_STATES, (None, None))
    if last is not None and last != now:  # a price changes nothing on the GPUs
        before = last
    st.session_state[session.PLAN_STATES] = (now, before)
    if before is None or before["model"] != now["model"]:
        return
    # A non-breaking space keeps a figure and its unit on one line; a figure that stays is no effect.
    parts = []
    if _fullest(before) != _fullest(now):
        parts.append(t(N_("busiest device {before} → {after}"), before=_fullest(before), after=bold(_fullest(now))))
    if gib(before["total"]) != gib(now["total"]):
        parts.append(t(N_("total {before} → {after}"), before=gib(before["total"]), after=bold(gib(now["total"]))))
    if before["devices"] == now["devices"] and len(before["placed"]) == len(now["placed"]):
        memory = Memory(work.plan.profile, work.plan.workload)
        moved = [unit for unit, device in enumerate(now["placed"]) if before["placed"][unit] != device]
        size = sum(memory.weights_bytes(unit) for unit in moved)
        if moved:
            parts.append(
                t(N_("parts of the model that move: {count} ({size} of weights)"), count=len(moved), size=gib(size))
            )
    if before["verdict"] != now["verdict"]:
        parts.append(t(NOW[now["verdict"]]))
    if parts:
        with st.container(key="plan_effect"):
            said = t(N_("Effect of the last change: {effects}"), effects=joined(" · ", parts))
            st.markdown(":material/compare_arrows: " + said)


def _state(work: Work) -> dict[str, Any]:
    plan = work.plan
    return {
        "model": work.question.model,
        "devices": [device.target.total_bytes for device in plan.devices],
        "placed": plan.assignment,
        "fullest": (device_name(plan.bottleneck), plan.bottleneck_utilisation),
        "total": sum(device.breakdown.total for device in plan.devices),
        "verdict": plan.verdict,
    }


def _fullest(state: dict[str, Any]) -> str:
    name, share = state["fullest"]
    return f"{100 * share:.0f}% ({name})"
