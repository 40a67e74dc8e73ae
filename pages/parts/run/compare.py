"""Two to eight runs side by side: curves, what their configs differ in, ranks, memory, answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from lora_backend.config.diff import ABSENT
from lora_backend.config.short_values import in_short
from lora_backend.formats import number, size
from lora_backend.i18n import N_
from lora_backend.runs.history.outcome import Outcome, outcome_of
from lora_backend.runs.history.run_table import config_differences
from lora_backend.runs.record.changes import config_as_changed
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.verification.verdicts import TONES
from pages.parts.run.list import run_title
from pages.parts.shell.language import language, t
from pages.parts.widgets.charts import SEVERAL, compared_chart
from pages.parts.widgets.formats import duration
from pages.parts.widgets.frames import frame, markdown_frame
from pages.parts.widgets.status_badge import state_in_words

OVER = {"step": N_("Step"), "time": N_("Seconds"), "tokens": N_("Tokens")}
FIGURES = {
    "loss": N_("Loss"),
    "eval_loss": N_("Evaluation loss"),
    "learning_rate": N_("Learning rate"),
    "grad_norm": N_("Gradient norm"),
    "tokens_per_s": N_("Tokens/s"),
}


def compare_runs(runs: Sequence[RunFolder]) -> None:
    """The comparison of `runs`, in the order in which they were chosen."""
    abouts = [run.read_run() for run in runs]
    names = [f"{run_title(about)} · {run.id}" for run, about in zip(runs, abouts, strict=True)]
    columns = [read_columns(run.metrics_jsonl) for run in runs]
    left, right = st.columns(2)
    figure = left.segmented_control(
        t(N_("Figure")), list(FIGURES), format_func=lambda key: t(FIGURES[key]), default="loss", required=True, key="compare_figure"
    )  # fmt: skip
    over = right.segmented_control(
        t(N_("Over")), list(OVER), format_func=lambda key: t(OVER[key]), default="step", required=True, key="compare_over"
    )  # fmt: skip
    chart = compared_chart(list(zip(names, columns, strict=True)), figure, over, (t(OVER[over]), t(FIGURES[figure])))
    st.plotly_chart(chart, key="compare_chart", config={"displayModeBar": False})

    st.subheader(t(N_("Config differences")), anchor=False)
    differences = config_differences([config_as_changed(run) for run in runs])
    if differences:
        _table({key: [_text(key, value) for value in values] for key, values in differences.items()}, names)
    else:
        st.caption(t(N_("Their configs are the same.")))
    st.subheader(t(N_("Results")), anchor=False)
    outcomes = [outcome_of(run, curves) for run, curves in zip(runs, columns, strict=True)]
    best: dict[str, set[int]] = {
        t(LABELS[key]): best_of([pick(outcome) for outcome in outcomes]) for key, pick in BEST.items()
    }
    _table(_cells(outcomes), names, best)
    if any(best.values()):
        st.caption(t(N_("{mark} the best of these runs"), mark=BEST_MARK))
    _answers(runs, names)


BEST_MARK = "★"
ANSWER_PX = 72
LABELS = {
    "last_loss": N_("Last loss"),
    "lowest_eval_loss": N_("Lowest evaluation loss"),
    "right_answers": N_("Right answers"),
}
BEST: dict[str, Callable[[Outcome], float | None]] = {
    "last_loss": lambda outcome: outcome.last_loss,
    "lowest_eval_loss": lambda outcome: outcome.lowest_eval_loss,
    "right_answers": lambda outcome: (
        -(outcome.right_answers or 0) / outcome.num_answers if outcome.num_answers else None
    ),
}
"""Figures of which less is better in any case; a short run is not better for its time, nor a small one for its memory."""


def best_of(figures: Sequence[float | None]) -> set[int]:
    """Places of the least figures; none where there is nothing to choose between. Figures that read alike are alike."""
    known = [figure for figure in figures if figure is not None]
    if len({number(figure) for figure in known}) < 2:
        return set()
    return {place for place, figure in enumerate(figures) if number(figure) == number(min(known))}


def _cells(outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for outcome in outcomes:
        cells = {
            t(N_("State")): state_in_words(outcome.state, outcome.health),
            t(N_("Step")): f"{outcome.step} / {outcome.total_steps or '–'}",
            t(LABELS["last_loss"]): number(outcome.last_loss),
            t(LABELS["lowest_eval_loss"]): number(outcome.lowest_eval_loss),
            t(N_("Time")): duration(outcome.took_s),
            t(N_("Ranks")): t(TONES[outcome.ranks]),
            t(N_("Measured tensors, all devices")): size(outcome.measured_bytes),
            t(LABELS["right_answers"]): f"{outcome.right_answers} / {outcome.num_answers}"
            if outcome.num_answers
            else "–",
        }
        for name, value in cells.items():
            found.setdefault(name, []).append(value)
    return found


def _answers(runs: Sequence[RunFolder], names: Sequence[str]) -> None:
    """What each adapter answered to the same questions; ✓ and ✗ where the config says what is expected."""
    asked = [{str(row.get("question")): row for row in run.answers()} for run in runs]
    questions = list(dict.fromkeys(question for answers in asked for question in answers))
    if not questions:
        return
    st.subheader(t(N_("Answers")), anchor=False)
    shown = [
        {"": question, **dict(zip(names, (_answer(answers.get(question)) for answers in asked), strict=True))}
        for question in questions
    ]
    columns = {name: st.column_config.TextColumn(width="medium") for name in ("", *names)}
    # Dozens of long texts: it scrolls, each with room for three lines, and a double click shows one whole.
    st.dataframe(frame(shown).set_index(""), column_config=columns, row_height=ANSWER_PX)


def _answer(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    correct = row.get("adapter_correct")  # None where nothing is expected
    mark = "✓ " if correct is True else "✗ " if correct is False else ""
    return f"{mark}{row.get('adapter_answer') or '–'}"


def _table(rows: dict[str, list[str]], names: Sequence[str], best: Mapping[str, set[int]] | None = None) -> None:
    """A column a run, marked with the colour of its curve; cells break into lines, so that none is cut off."""
    cells = [[t(N_("Curve")), *["━━"] * len(names)]]
    for head, values in rows.items():
        first = (best or {}).get(head, set())
        cells.append(
            [head, *(f"{value} {BEST_MARK}" if place in first else value for place, value in enumerate(values))]
        )
    colours = [f"color: {SEVERAL[place % len(SEVERAL)]}; font-weight: bold" for place in range(len(names))]
    style = markdown_frame([t(N_("Run")), *names], cells).style
    style = style.apply(lambda row: ["", *colours] if row.name == 0 else [""] * len(row), axis=1)
    st.table(style.hide(axis="index"))


def _text(key: str, value: Any) -> str:
    return "–" if value is ABSENT or value is None else in_short(key, value, 200, language())
