"""A run's memory: what was planned for each device beside what was measured after the first steps."""

from __future__ import annotations

import streamlit as st

from lora_backend.formats import size
from lora_backend.i18n import N_, Plural
from lora_backend.preflight.plan_vs_measured import Comparison, compare
from lora_backend.runs.record.attempts import Measured
from lora_backend.runs.record.run_store import RunStore
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import bold, joined
from pages.parts.shell.services import installation
from pages.parts.widgets.frames import markdown_frame

WORDS = {
    "weights": N_("Weights"),
    "adapter": N_("Adapter"),
    "gradients": N_("Gradients kept between passes"),
    "optimizer": N_("Optimizer"),
    "moving": N_("Activations, loss and new gradients"),
}


def memory_view(run: RunStore, *, has_ended: bool) -> None:
    """Plan, fallback and measurement of the newest attempt."""
    attempt = run.read_attempt()
    if attempt.strategy_note:
        st.info(say(attempt.strategy_note), icon=":material/account_tree:")
    for said in (attempt.fallback, attempt.note):
        if said:
            st.warning(say(said), icon=":material/warning:")
    comparisons = [
        found for found in compare(attempt, run.config_as_changed(), installation()) if found.planned_at_most
    ]
    if not comparisons:
        if attempt.note is None:
            text = (
                N_("This start ended before it was planned.")
                if has_ended
                else N_("The plan of this start will show up here.")
            )
            st.info(t(text), icon=":material/memory:")
        return
    measured = attempt.measured
    for found in comparisons:
        _device(found, measured)
    if measured is None:
        text = (
            N_("It ended before the second step, which is the one that is measured.")
            if has_ended
            else N_("The second step is measured; its figures will show up here next to the plan.")
        )
        st.caption(t(text))
    elif any(found.expected is None for found in comparisons):
        text = (
            N_("There is no profile for rows of that length here, so the plan's expectation is unknown.")
            if has_ended
            else N_("The plan for rows of that length will show up here when training has ended.")
        )
        st.caption(t(text))


def _device(found: Comparison, measured: Measured | None) -> None:
    with st.container(border=True):
        name = t(N_("CPU, host memory")) if found.device == "cpu" else f"GPU {found.device}"
        process = [] if found.rank is None else [t(N_("Process {rank}"), rank=found.rank)]
        st.markdown(bold(joined(" · ", [name, *process])))
        at_most = t(
            N_("Planned at most, for the longest rows and with overhead: {size}"), size=size(found.planned_at_most)
        )
        if found.measured is None or measured is None:
            st.markdown(at_most)
            return
        step, had = measured.step, measured.rows_of(found.rank)
        columns = st.columns(3)
        columns[0].metric(t(N_("Planned for step {step}"), step=step), size(found.expected_bytes))
        columns[1].metric(t(N_("Measured in step {step}"), step=step), size(found.measured_bytes))
        difference = "–" if found.difference is None else f"{100 * found.difference:+.1f}%"
        columns[2].metric(t(N_("Difference")), difference)
        st.caption(
            t(
                Plural(
                    "The step had {count} row of {tokens} tokens. Both sides count only tensors; the whole process used {process}.",
                    "The step had {count} rows of {tokens} tokens. Both sides count only tensors; the whole process used {process}.",
                ),
                count=had.rows,
                tokens=had.tokens,
                process=size(found.process_bytes),
            )
        )
        rows = [
            (
                t(word),
                size(found.expected[name]) if found.expected else "–",
                size(found.measured[name]),
                size(found.expected[name] - found.measured[name], sign=True) if found.expected else "–",
            )
            for name, word in WORDS.items()
        ]
        heads = [t(N_("Part")), t(N_("Planned")), t(N_("Measured")), t(N_("Difference"))]
        st.table(markdown_frame(heads, rows).set_index(heads[0]))
        st.caption(at_most)
