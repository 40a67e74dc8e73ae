"""Two to eight runs side by side: curves, what their configs differ in, ranks, memory, answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.runs.history.checkpoint_list import resumed_steps
from lora_backend.runs.history.curve_marks import without_pauses
from lora_backend.runs.history.outcome import outcome_of
from lora_backend.runs.history.run_table import config_differences
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.compare_view import BEST_MARK, answers_beside, results
from lora_backend.views.run_view import run_title, value_text
from pages.parts.run.curves import chosen_look
from pages.parts.shell.language import language, say, t, t_plain
from pages.parts.widgets.chart import show_chart
from pages.parts.widgets.charts import KEYS, SEVERAL, compared_chart
from pages.parts.widgets.frames import frame, markdown_frame

FIGURES = {
    "loss": N_("Loss"),
    "eval_loss": N_("Evaluation loss"),
    "learning_rate": N_("Learning rate"),
    "grad_norm": N_("Gradient norm"),
    "tokens_per_s": N_("Tokens/s"),
}
LOSSES = ("loss", "eval_loss")


def compare_runs(runs: Sequence[RunStore]) -> None:
    """The comparison of `runs`, in the order in which they were chosen."""
    names = [f"{run_title(run.read_record())} · {run.id}" for run in runs]
    columns = [without_pauses(read_columns(run.metrics_jsonl), resumed_steps(run)) for run in runs]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        figure = st.segmented_control(
            t(N_("Figure")),
            list(FIGURES),
            format_func=lambda key: t(FIGURES[key]),
            default="loss",
            required=True,
            key="compare_figure",
            wrap=True,
        )
        look = chosen_look("compared", has_log=figure in LOSSES)
    chart = compared_chart(list(zip(names, columns, strict=True)), figure, t(FIGURES[figure]), look)
    show_chart(chart, key="compare_chart", alt=t_plain(FIGURES[figure]))

    st.header(t(N_("Config differences")), anchor=False)
    differences = config_differences([run.config_as_changed() for run in runs])
    if differences:
        _table(
            {key: [value_text(key, value, 200, language()) for value in values] for key, values in differences.items()},
            names,
        )
    else:
        st.caption(t(N_("Their configs are the same.")))
    st.header(t(N_("Results")), anchor=False)
    found = results([outcome_of(run, curves) for run, curves in zip(runs, columns, strict=True)])
    _table({say(result.head): result.texts(language()) for result in found}, names)
    if any(result.best for result in found):
        st.caption(t(N_("{mark} the best of these runs"), mark=BEST_MARK))
    _answers(runs, names)


ANSWER_PX = 72


def _answers(runs: Sequence[RunStore], names: Sequence[str]) -> None:
    """What each adapter answered to the same questions."""
    shown = answers_beside([run.read_answers() for run in runs])
    if not shown:
        return
    st.header(t(N_("Answers")), anchor=False)
    columns = {name: st.column_config.TextColumn(width="medium") for name in ("", *names)}
    # Dozens of long texts: it scrolls, each with room for three lines, and a double click shows one whole.
    rows = [dict(zip(("", *names), row, strict=True)) for row in shown]
    st.dataframe(frame(rows).set_index(""), column_config=columns, row_height=ANSWER_PX, placeholder="–")


def _table(rows: Mapping[str, Sequence[str]], names: Sequence[str]) -> None:
    """A column a run, marked as its curve is drawn; cells break into lines, so that none is cut off."""
    keys = [KEYS[place % len(KEYS)] for place in range(len(names))]
    cells = [[t(N_("Curve")), *keys], *([head, *values] for head, values in rows.items())]
    colours = [f"color: {SEVERAL[place % len(SEVERAL)]}; font-weight: bold" for place in range(len(names))]
    style = markdown_frame([t(N_("Run")), *names], cells).style
    style = style.apply(lambda row: ["", *colours] if row.name == 0 else [""] * len(row), axis=1)
    st.table(style.hide(axis="index"))
