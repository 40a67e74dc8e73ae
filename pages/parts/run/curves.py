"""A run's curves: what was read of its points, how the reader wants to see them, and the charts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.runs.history.curve_marks import Marks, marks_of, without_pauses
from lora_backend.runs.record.curves import points, read_columns
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.views.curve_view import MOST_SMOOTHED, OVER, Look, look_of, points_csv, words_of
from pages.parts.run import session
from pages.parts.shell.language import t, t_plain
from pages.parts.widgets.chart import show_chart
from pages.parts.widgets.charts import MEMORY, NORM, RATE, SPEED, Columns, figure_chart, loss_chart

SMALL_CHARTS = (
    ("learning_rate", N_("Learning rate"), RATE, 1.0),
    ("tokens_per_s", N_("Tokens/s"), SPEED, 1.0),
    ("grad_norm", N_("Gradient norm"), NORM, 1.0),
    ("memory_bytes", N_("Memory, GiB"), MEMORY, 2.0**30),
)


def run_columns(run: RunStore) -> Columns:
    """The run's points as columns; nobody changes what it returns."""
    try:
        found = run.metrics_jsonl.stat()
    except OSError:
        return {}
    return _read_columns(str(run.metrics_jsonl), (found.st_size, found.st_mtime_ns))


@st.cache_resource(max_entries=16, show_spinner=False)
def _read_columns(path: str, stamp: tuple[int, int]) -> Columns:
    """Read again only when the file has grown."""
    return read_columns(Path(path))


def run_curves(run: RunStore, columns: Columns, state: RunState) -> None:
    """The charts of a run below what they can be set to, or what they wait for."""
    if not columns:
        before, after = N_("Waiting for the first step…"), N_("It ended before its first step was logged.")
        st.info(t(after if state.has_ended else before), icon=":material/show_chart:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        look = chosen_look(run.id)
        st.download_button(
            t(N_("CSV of all points")),
            lambda: points_csv(columns),
            f"{run.id}.csv",
            "text/csv",
            key=f"curves_csv-{run.id}",
            icon=":material/download:",
            on_click="ignore",
        )
    marks = marks_of(run, columns)
    curves = without_pauses(columns, marks.resumed)
    draw_curves(curves, look, run.id, marks=marks, total_steps=state.total_steps)


def chosen_look(name: str, *, has_log: bool = True) -> Look:
    """What the reader chose for the charts `name`: kept while the session lasts, and in the address, which a link carries.

    `has_log`: whether there is a loss.
    """
    looks: dict[str, Look] = st.session_state.setdefault(session.LOOKS, {})
    # What each field begins with, and the same from then on: another default would make it another field.
    first = looks.setdefault(name, look_of(st.query_params.to_dict()))
    over = st.segmented_control(
        t(N_("Over")),
        list(OVER),
        format_func=lambda key: t(OVER[key]),
        default=first.over,
        required=True,
        key=f"curves_over-{name}",
        persist_state="session",
    )
    percent = st.slider(
        t(N_("Smoothing")),
        0,
        round(100 * MOST_SMOOTHED),
        first.percent,
        format="%d%%",
        key=f"curves_smoothing-{name}",
        help=t(
            N_(
                "How many of the points each value is averaged over, with the newest counting most. 0% shows the loss as it was logged."
            )
        ),
        width=220,
        persist_state="session",
    )
    is_log = look_of(st.query_params.to_dict()).is_log
    if has_log:
        is_log = st.toggle(t(N_("Logarithmic loss")), first.is_log, key=f"curves_log-{name}", persist_state="session")
    look = Look(over, percent / 100, is_log)
    for word, said in words_of(look).items():
        if said is None:
            st.query_params.pop(word, None)
        elif st.query_params.get(word) != said:
            st.query_params[word] = said
    return look if has_log else replace(look, is_log=False)


def draw_curves(
    columns: Columns, look: Look, name: str, *, marks: Marks | None = None, total_steps: int | None = None
) -> None:
    """The loss, and below it a small chart of each figure that has points; `name` is what they are of, a run's id."""
    key = name.replace("_", "-")  # Streamlit takes no `__` in a component's key
    if any(len(points(columns, loss)[0]) for loss in ("loss", "eval_loss")):
        show_chart(loss_chart(columns, marks, look, total_steps), key=f"loss-{key}", alt=_alt(N_("Loss"), name))
    drawn = [entry for entry in SMALL_CHARTS if len(points(columns, entry[0])[0])]
    places = [place for _ in range(0, len(drawn), 2) for place in st.columns(2)]
    for place, (figure_key, title, color, divisor) in zip(places, drawn, strict=False):
        figure = figure_chart(columns, figure_key, t(title), color, divisor, look=look, total_steps=total_steps)
        with place:
            show_chart(figure, key=f"{figure_key}-{key}", alt=_alt(title, name))


def _alt(title: str, name: str) -> str:
    """What a chart is called, for who cannot see it, and as a file."""
    return t_plain(N_("{figure} of {name}"), figure=t_plain(title), name=name)
