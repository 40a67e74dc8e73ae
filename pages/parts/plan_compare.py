"""Plans side by side: on other machines, and what can be launched on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.hardware.inventory import read_host
from lora_backend.i18n import N_
from lora_backend.planning.estimate import Conditions, Estimate, estimate
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import with_changes
from lora_backend.planning.step_time import Cpu
from lora_backend.planning.targets import Target, of_host, of_words
from lora_backend.preflight.planning import Trace
from pages.parts import state_keys
from pages.parts.failing import safely
from pages.parts.frames import frame
from pages.parts.language import say_plain, t, t_plain
from pages.parts.layer_strip import device_name
from pages.parts.markdown import joined
from pages.parts.plan_advice import may_trace
from pages.parts.plan_controls import set_param
from pages.parts.plan_question import MAX_MACHINES, Question
from pages.parts.plan_trace import NotTracedError, known_only, trace
from pages.parts.plan_verdict import cost_words, step_words, strategy, total_words, verdict_word
from pages.parts.plan_work import Work, with_targets
from pages.parts.services import settings


def show_machines(work: Work) -> None:
    """Up to three other machines beside this plan."""
    named = work.question.machines
    for index, column in enumerate(st.columns(MAX_MACHINES)):
        key, word = f"machine-{index}", named[index] if index < len(named) else ""
        if st.session_state.get(key) != word:
            st.session_state[key] = word
        column.text_input(
            t(N_("Machine {number}"), number=index + 1), key=key, on_change=safely(_write_machines), max_chars=200,
            placeholder=("2xRTX-4090", "A100-80G", "24,24,12")[index],
        )  # fmt: skip
    rows = [_row(work, t(N_("this plan")), lambda: (work.plan, {}))]
    rows += [_row(work, words, _on_machine(work, words)) for words in named]
    _table(rows)
    _say_of_time(work)


def _on_machine(work: Work, words: str) -> Callable[[], tuple[Plan, dict[str, Any]]]:
    return lambda: (with_targets(work, of_words(words)), {})


def _write_machines() -> None:
    words = [str(st.session_state[f"machine-{index}"] or "").strip() for index in range(MAX_MACHINES)]
    set_param(state_keys.MACHINES, ";".join(word for word in words if word))


def show_launchable(work: Work) -> None:
    """One GPU, layer split, 4-bit, CPU: what each would take here."""
    place = st.container()
    traced = may_trace("launchable", t(N_("Trace what is not known yet (a few seconds each)")))
    rows = [_row(work, name, make) for name, make in _ways(work, trace if traced else known_only)]
    with place:
        _table(rows)
    _say_of_time(work)


def _ways(work: Work, source: Trace) -> Iterator[tuple[str, Callable[[], tuple[Plan, dict[str, Any]]]]]:
    gpus = tuple(target for target in work.planner.targets if not target.is_cpu)
    host = of_host(read_host(settings().workspace))

    def way(targets: tuple[Target, ...], **changes: Any) -> Callable[[], tuple[Plan, dict[str, Any]]]:
        return lambda: (with_targets(work, targets, source, **changes), changes)

    if gpus:
        largest = max(gpus, key=lambda target: target.capacity_bytes)
        yield t(N_("one GPU, the largest")), way((largest,))
        if len(gpus) > 1:
            yield t(N_("layer split")), way(gpus)
        if work.config.quantization is None and work.config.precision != "fp32":
            yield t(N_("one GPU, 4-bit weights")), way((largest,), quantization="nf4")
            if len(gpus) > 1:
                yield t(N_("layer split, 4-bit weights")), way(gpus, quantization="nf4")
    yield t(N_("this computer's CPU")), way((host,), quantization=None)


def _row(work: Work, name: str, make: Callable[[], tuple[Plan, dict[str, Any]]]) -> dict[str, str]:
    try:
        plan, changes = make()
    except NotTracedError:
        return _cells(name, t_plain(N_("not traced yet")))
    except FlightdeckError as error:
        return _cells(name, say_plain(error.message))
    config = with_changes(work.config, **changes)
    here = tuple(device.target for device in plan.devices) == work.planner.targets
    conditions = Conditions(
        work.planner.link_speed if here else None,
        Cpu(read_host(settings().workspace).num_cores),
        num_rows=work.question.value("rows"),
    )
    found = estimate(plan, config, conditions)
    return _cells(name, verdict_word(plan), plan, found, work.question)


def _cells(
    name: str, fits: str, plan: Plan | None = None, found: Estimate | None = None, question: Question | None = None
) -> dict[str, str]:
    full = "–" if plan is None else f"{100 * plan.bottleneck_utilisation:.0f} % · {device_name(plan.bottleneck)}"
    num_gpus = 0 if plan is None else sum(not device.target.is_cpu for device in plan.used)
    return {
        t(N_("On")): name,
        t(N_("Fits?")): fits,
        t(N_("Fullest device")): full,
        t(N_("Strategy")): "–" if plan is None else strategy(plan),
        t(N_("One step")): step_words(found),
        t(N_("Whole run")): total_words(found),
        t(N_("Cost")): "–"
        if question is None
        else cost_words(found, question.value("price"), num_gpus, question.value("currency")),
    }


def _table(rows: list[dict[str, str]]) -> None:
    st.dataframe(frame(rows), hide_index=True, height="content")


def _say_of_time(work: Work) -> None:
    """What the times rest on, or why there are none."""
    said = [t(N_("Times are FLOPs and bytes over the card's published rates at 30 to 60 % of them: an assumption, not a measurement."))]  # fmt: skip
    if any(not target.is_cpu and target.spec is None for target in work.planner.targets):
        said.append(t(N_("GPUs given as GiB alone have no rates, so they get no times; name the cards, as in 2xRTX-4090.")))  # fmt: skip
    if work.question.value("rows") is None and not work.config.max_steps:
        said.append(t(N_("For the whole run, set the rows of data at the left.")))
    elif not work.question.value("price"):
        said.append(t(N_("For the cost, set the price of a GPU hour at the left.")))
    st.caption(joined(" ", said))
