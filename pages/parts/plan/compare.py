"""Plans side by side on other machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_, Message
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import with_changes
from lora_backend.planning.report import tone
from lora_backend.planning.targets import GIB, of_words
from lora_backend.views.plan_view import fits_message, step_message, strategy_message, total_message
from pages.parts.plan.controls import set_param
from pages.parts.plan.figures import cost_of, estimate_of
from pages.parts.plan.question import MAX_MACHINES
from pages.parts.plan.strip import device_name
from pages.parts.plan.work import Work, with_targets
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, say_plain, t, t_plain
from pages.parts.shell.markdown import bold, joined
from pages.parts.widgets.tables import wrapping_table

FILLS = {"good": "ok", "doubt": "changed", "bad": "wrong"}
Way = tuple[str, Callable[[], tuple[Plan, dict[str, Any]]]]
"""A name, and what makes its plan and the keys that it changes."""


def show_machines(work: Work) -> None:
    """Up to three other machines beside this plan."""
    named = work.question.machines
    for index, column in enumerate(st.columns(MAX_MACHINES)):
        key, word = f"machine-{index}", named[index] if index < len(named) else ""
        if st.session_state.get(key) != word:
            st.session_state[key] = word
        column.text_input(
            t(N_("Machine {number}"), number=index + 1),
            key=key,
            on_change=safely(_write_machines),
            max_chars=200,
            placeholder=("2xRTX-4090", "A100-80G", "24,24,12")[index],
        )
    ways: list[Way] = [(t_plain(N_("this plan")), lambda: (work.plan, {}))]
    _compare(work, ways + [(words, _on_machine(work, words)) for words in named])


def _on_machine(work: Work, words: str) -> Callable[[], tuple[Plan, dict[str, Any]]]:
    return lambda: (with_targets(work, of_words(words)), {})


def _write_machines() -> None:
    words = [str(st.session_state[f"machine-{index}"] or "").strip() for index in range(MAX_MACHINES)]
    set_param(addresses.MACHINES, ";".join(word for word in words if word))


def _compare(work: Work, ways: list[Way]) -> None:
    """The table, and below it why some have no plan. What the times rest on stands beside those of the plan."""
    rows, fills, refused = [], [], []
    for name, make in ways:
        try:
            plan, changes = make()
        except FlightdeckError as error:
            rows.append([name, "✗ " + t_plain(N_("no plan"))])
            fills.append("missing")
            refused.append((name, error.message))
        else:
            rows.append(
                [
                    f"{name} · {say_plain(strategy_message(plan))}",
                    *_cells(work, plan, changes),
                ]
            )
            fills.append(FILLS[tone(plan)])
    heads = [N_("On"), N_("Fits?"), N_("Peak memory"), N_("One step"), N_("Whole run"), N_("Cost")]
    rows = [row + ["–"] * (len(heads) - len(row)) for row in rows]
    # What nobody can say of any of them is no column.
    shown = [index for index in range(len(heads)) if index < 3 or any(row[index] != "–" for row in rows)]
    names = [t(heads[index]) for index in shown]
    wrapping_table(names, [[row[index] for index in shown] for row in rows], fills, figures=[names[1], *names[3:]])
    for name, reason in refused:
        st.caption(joined(": ", (bold(name), say(reason))))


def _cells(work: Work, plan: Plan, changes: dict[str, Any]) -> list[str]:
    found = estimate_of(work, plan, with_changes(work.config, **changes))
    times = (say_plain(step_message(found)), say_plain(total_message(found)))
    return [say_plain(fits_message(plan)), fullest(plan), *times, cost_of(work, plan, found)]


def fullest(plan: Plan, *, in_short: bool = False) -> str:
    """The busiest device, what it would hold and what is free there; `in_short` without the card's name."""
    device = plan.bottleneck
    held, room = device.breakdown.total / GIB, device.target.capacity_bytes / GIB
    said = Message(
        N_("{held} of {room} GiB ({percent}%)"),
        {"held": f"{held:.1f}", "room": f"{room:.1f}", "percent": f"{100 * device.utilisation:.0f}"},
    )
    name = f"GPU {device.target.device}" if in_short and not device.target.is_cpu else device_name(device)
    return f"{name}: {t_plain('{said}', said=said)}"
