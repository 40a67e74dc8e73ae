"""What this machine can do with a config: every way to train it side by side, each a click from its launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from lora_backend.config.fix_offers import change
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.schema import KEYS
from lora_backend.errors import FlightdeckError, WorkerError
from lora_backend.hardware.inventory import read_host
from lora_backend.i18n import N_
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import with_changes
from lora_backend.planning.price import Price
from lora_backend.planning.report import tone
from lora_backend.planning.targets import of_host
from lora_backend.planning.ways import Way, options_on_this_machine, with_figures
from lora_backend.views.plan_options import auto_message, pace_message, way_message
from lora_backend.views.plan_view import cost_message, fits_message, total_message
from pages.parts.plan import session
from pages.parts.plan.compare import FILLS, fullest
from pages.parts.plan.figures import conditions_of
from pages.parts.plan.question import CONFIG_KEYS
from pages.parts.plan.trace import offer_again
from pages.parts.plan.work import Work, with_targets
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, say_plain, t, t_plain
from pages.parts.shell.markdown import bold, joined
from pages.parts.shell.services import installation
from pages.parts.widgets.tables import wrapping_table

HEADS = (N_("On"), N_("Fits?"), N_("Peak memory"), N_("Tokens/s"), N_("Whole run"), N_("Cost"))
ALWAYS = 3
"""Columns that are there whatever is known."""
Launch = Callable[[Mapping[str, Any]], None]
"""Sets keys of the draft that is planned, or of a new one, and launches it."""


def show_options(work: Work, launch: Launch) -> None:
    """The table, and below it what has no plan and why; on this machine a button for each way that can be started."""
    price, conditions = work.question.value("price"), conditions_of(work, work.plan, work.config)
    try:
        ways = options_on_this_machine(
            work.planner,
            work.config,
            work.planner.targets,
            conditions,
            Price(price, work.question.value("currency")) if price else None,
        )
    except WorkerError as error:
        st.info(t(N_("What this machine can do is not known: {reason}"), reason=say(error.message)))
        offer_again("options")
        return
    rows, fills = [_row(work, way) for way in ways], [_fill(way.plan) for way in ways]
    on_cpu = _on_cpu(work)
    if on_cpu is not None:
        rows.append(on_cpu[0])
        fills.append(_fill(on_cpu[1]))
    shown = [index for index in range(len(HEADS)) if index < ALWAYS or any(row[index] != "–" for row in rows)]
    names = [t(HEADS[index]) for index in shown]
    wrapping_table(names, [[row[index] for index in shown] for row in rows], fills, figures=[names[1], *names[3:]])
    for way in ways:
        for said in (way.reason, way.note):
            if said is not None:
                st.caption(joined(": ", (bold(say(way_message(way))), say(said))))
    auto = auto_message(work.planner, work.config, conditions)
    if auto is not None:
        st.caption(say(auto))
    if work.question.gpus is None:
        _launches(work, [way for way in ways if way.plan is not None and way.plan.fits], launch)


def _row(work: Work, way: Way) -> list[str]:
    name = say_plain(way_message(way))
    if way.plan is None:
        return [name, "✗ " + t_plain(N_("no plan")), *["–"] * (len(HEADS) - 2)]
    price, currency = work.question.value("price"), work.question.value("currency")
    return [
        name,
        say_plain(fits_message(way.plan)),
        fullest(way.plan, in_short=True),
        say_plain(pace_message(way)),
        say_plain(total_message(way.time)),
        say_plain(cost_message(way.time, price, way.num_gpus, currency)),
    ]


def _on_cpu(work: Work) -> tuple[list[str], Plan] | None:
    """The host's memory, in the place of GPUs that are there; None where it is planned already, or cannot be."""
    if all(target.is_cpu for target in work.planner.targets):
        return None
    changes = {"quantization": None, "strategy": "single", "num_processes": None, "fsdp_offload_params": False}
    try:
        plan = with_targets(work, (of_host(read_host(installation().workspace)),), **changes)
        config = with_changes(work.config, **changes)
        way = with_figures(Way("single", Patch({}), plan), config, work.planner, conditions_of(work, plan, config))
    except FlightdeckError:
        return None
    name, pace, total = t_plain(N_("this computer's CPU")), pace_message(way), total_message(way.time)
    return [
        name,
        say_plain(fits_message(plan)),
        fullest(plan, in_short=True),
        say_plain(pace),
        say_plain(total),
        "–",
    ], plan


def _fill(plan: Plan | None) -> str:
    return "missing" if plan is None else FILLS[tone(plan)]


def _launches(work: Work, ways: list[Way], launch: Launch) -> None:
    if not ways:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="plan_launches"):
        st.markdown(t(N_("Launch:")), width="content")
        for way in ways:
            st.button(
                say(way_message(way)),
                icon=":material/rocket_launch:",
                key=f"launch-{way.code}",
                on_click=safely(_ask),
                args=(way.code,),
            )
    asked = next((way for way in ways if way.code == st.session_state.get(session.PLAN_LAUNCH)), None)
    if asked is not None:
        _confirm(work, asked, launch)


def _ask(code: str | None) -> None:
    st.session_state[session.PLAN_LAUNCH] = code


def _confirm(work: Work, way: Way, launch: Launch) -> None:
    """What the draft will say, before it says so."""
    changes = launch_changes(work, way)
    with st.container(border=True, key="plan_confirm"):
        st.markdown(bold(say(way_message(way))))
        if changes:
            said = change(work.question.base, changes).label
            st.markdown(t(N_("Changes of the config: {changes}"), changes=say(said)))
        else:
            st.markdown(t(N_("The config already says so.")))
        with st.container(horizontal=True):
            wanted = st.button(
                t(N_("Change and launch")) if changes else t(N_("Launch")),
                type="primary",
                icon=":material/rocket_launch:",
                key="launch_way",
            )
            st.button(t(N_("Cancel")), key="launch_cancel", on_click=safely(_ask), args=(None,))
    if wanted:
        _ask(None)
        launch(changes)


def launch_changes(work: Work, way: Way) -> Patch:
    """What has to change in the planned draft, or in an empty one, for a run that trains so: what the address sets, then
    what the way needs. Keys that say so already are left alone."""
    base = work.question.base
    wanted: dict[str, Any] = {"model_name": work.question.model}
    wanted |= {name: work.question.value(name) for name in CONFIG_KEYS if name in work.question.params}
    wanted |= {"device_map": DELETE, "use_balanced_device_map": DELETE, **way.patch}
    return Patch({key: value for key, value in wanted.items() if not _says_so(base, key, value)})


def _says_so(base: Mapping[str, Any], key: str, value: Any) -> bool:
    if value is DELETE:
        return key not in base
    return bool((base[key] if key in base else KEYS[key].default) == value)
