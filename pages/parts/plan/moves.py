"""Placements by hand: choose blocks, put them on another GPU, take it back, go back to the best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from lora_backend.escaping import visible
from lora_backend.i18n import N_, Plural
from lora_backend.planning.hand_placement import move
from lora_backend.planning.plan import DevicePlan
from pages.parts.plan import session
from pages.parts.plan.controls import set_param
from pages.parts.plan.lanes import show_lanes
from pages.parts.plan.question import placement_text
from pages.parts.plan.strip import device_name, part_of, room, strip
from pages.parts.plan.work import BEST, Work
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import t

WHAT, FIRST, LAST, ONTO = "move-what", "move-first", "move-last", "move-onto"
VIEW = "plan-view"
VIEWS = {"memory": N_("Memory"), "time": N_("Time")}
WORDS = {"blocks": N_("blocks"), "embedding": N_("embedding"), "head": N_("head")}


def show_picture(work: Work) -> None:
    """What every GPU holds, or what it does in a step, as the address says."""
    if _view() == "time":
        show_lanes(work)
    else:
        show_strip(work)


def pick_view(work: Work) -> None:
    """Memory or time, which the address keeps; beside it the ways back, once a part was moved."""
    view = _view()
    if st.session_state.get(VIEW) != view:
        st.session_state[VIEW] = view
    with st.container(horizontal=True, horizontal_alignment="distribute", key="plan_view"):
        st.segmented_control(
            t(N_("Show")),
            list(VIEWS),
            format_func=lambda view: t(VIEWS[view]),
            required=True,
            key=VIEW,
            on_change=safely(_write_view),
            label_visibility="collapsed",
        )
        _ways_back(work)


def _ways_back(work: Work) -> None:
    before, after = _history(work)
    if not _can_move(work) or not (before or after or work.is_by_hand):
        return
    with st.container(horizontal=True, width="content", gap="xsmall"):
        _button(N_("Undo"), ":material/undo:", "undo", not before, lambda: _step(work, back=True))
        _button(N_("Redo"), ":material/redo:", "redo", not after, lambda: _step(work, back=False))
        _button(
            N_("Reset to optimal"),
            ":material/restart_alt:",
            "reset",
            not work.is_by_hand,
            lambda: back_to_best(work),
        )


def _can_move(work: Work) -> bool:
    return len(work.plan.devices) > 1 and not work.plan.is_shared


def _view() -> str:
    asked = st.query_params.get(addresses.VIEW, "")
    return asked if asked in VIEWS else "memory"


def _write_view() -> None:
    set_param(addresses.VIEW, st.session_state[VIEW], "memory")


def show_strip(work: Work) -> None:
    """One bar a GPU, one cell a block; a click selects."""
    selected = _selected(work)
    theme = "dark" if st.context.theme.type == "dark" else "light"
    chart = "strip"
    st.plotly_chart(
        strip(work.plan, selected, theme),
        key=chart,
        on_select=safely(lambda: _clicked(chart, work)),
        selection_mode="points",
        config={"displayModeBar": False},
        alt=_in_words(work),
    )


def show_moves(work: Work) -> None:
    """Range, device and button; everything works by keyboard."""
    if not _can_move(work):
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="plan_moves"):
        parts = [word for word in WORDS if word != "head" or not work.plan.profile.is_tied]
        st.selectbox(t(N_("Move")), parts, format_func=lambda word: t(WORDS[word]), key=WHAT, width=130)
        if st.session_state[WHAT] == "blocks":
            last = len(work.plan.profile.kind_of_block) - 1
            for key, label in ((FIRST, N_("from")), (LAST, N_("to"))):
                st.session_state[key] = min(st.session_state.get(key, 0), last)
                st.number_input(t(label), min_value=0, max_value=last, step=1, key=key, width=118)
        devices = range(len(work.plan.devices))
        st.selectbox(
            t(N_("onto")),
            devices,
            format_func=lambda index: visible(device_name(work.plan.devices[index])),
            key=ONTO,
            width=220,
        )
        _button(N_("Move"), ":material/drive_file_move:", "move", not _selected(work), lambda: _move(work))
    if _view() == "time":  # its lanes have no blocks to click
        return
    st.caption(
        t(
            N_(
                "Click a block to select it, Shift-click to select more. A manual placement is scored as it is, never changed."
            )
        )
    )


def _button(
    label: str,
    icon: str,
    key: str,
    disabled: bool,
    act: Callable[[], None],
) -> None:
    st.button(t(label), icon=icon, key=f"plan-{key}", disabled=disabled, on_click=safely(act))


def _selected(work: Work) -> list[int]:
    """Parts of the model that the controls name; none before anything was chosen."""
    what, blocks = st.session_state.get(WHAT), len(work.plan.profile.kind_of_block)
    if what == "embedding":
        return [0]
    if what == "head" and not work.plan.profile.is_tied:
        return [blocks + 1]
    if what is None or len(work.plan.devices) < 2:
        return []
    first, last = (min(int(st.session_state.get(key) or 0), blocks - 1) for key in (FIRST, LAST))
    return list(range(first + 1, last + 2))


def _clicked(chart: str, work: Work) -> None:
    points = st.session_state[chart]["selection"]["points"]
    units = sorted(
        int(point["customdata"][0])
        for point in points
        if point.get("customdata") and point["customdata"][0] is not None
    )
    blocks = [unit - 1 for unit in units if 0 < unit <= len(work.plan.profile.kind_of_block)]
    if blocks:
        st.session_state[WHAT], st.session_state[FIRST], st.session_state[LAST] = "blocks", blocks[0], blocks[-1]
    elif units:
        st.session_state[WHAT] = "embedding" if units[0] == 0 else "head"


def _move(work: Work) -> None:
    # What the fields hold now: whoever clicks right after typing clicks a button that was drawn before.
    plan, units = work.plan, _selected(work)
    placed = move(plan.assignment, units[0], units[-1], int(st.session_state[ONTO]), num_devices=len(plan.devices))
    if placed != plan.assignment:
        _place(work, placement_text(placed))


def _place(work: Work, text: str | None) -> None:
    """A new state of the placement; what was undone is gone then."""
    before, _ = _history(work)
    _keep(work, [*before, _current()], [])
    _write(work, text)


def back_to_best(work: Work) -> None:
    """The placement that the planner would choose; one made by hand can be had again by an undo."""
    if work.is_by_hand:
        _place(work, None)


def _step(work: Work, *, back: bool) -> None:
    before, after = _history(work)
    if back:
        _keep(work, before[:-1], [*after, _current()])
        _write(work, before[-1])
    else:
        _keep(work, [*before, _current()], after[:-1])
        _write(work, after[-1])


def _current() -> str | None:
    return st.query_params.get(addresses.PLACEMENT)


def _write(work: Work, text: str | None) -> None:
    if text is None and isinstance(work.question.base.get("device_map"), dict):
        text = BEST
    if text is None:
        st.query_params.pop(addresses.PLACEMENT, None)
    else:
        st.query_params[addresses.PLACEMENT] = text


def _shape(work: Work) -> Any:
    return work.question.model, len(work.plan.assignment), len(work.plan.devices)


def _history(work: Work) -> tuple[list[str | None], list[str | None]]:
    """Placements before and after this one; those of another model or of other GPUs do not count."""
    shape, before, after = st.session_state.get(session.PLAN_HISTORY, (None, [], []))
    return (before, after) if shape == _shape(work) else ([], [])


def _keep(work: Work, before: list[str | None], after: list[str | None]) -> None:
    st.session_state[session.PLAN_HISTORY] = (_shape(work), before, after)


BLOCKS = Plural("{count} block", "{count} blocks")


def _part_in_words(work: Work, device: DevicePlan) -> str:
    return part_of(work.plan, device) if work.plan.is_shared else t(BLOCKS, count=len(device.blocks))


def _in_words(work: Work) -> str:
    return "; ".join(
        f"{device_name(device)}: {_part_in_words(work, device)}, {room(device)}" for device in work.plan.devices
    )
