"""The tab that truncates a trained adapter: a slider over ranks, what each keeps and costs, and its export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.escaping import visible
from lora_backend.formats import number, size
from lora_backend.i18n import N_, Message, Plural
from lora_backend.launching.jobs import start_job
from lora_backend.preflight.roots import allowed_model
from lora_backend.runs.record.job_documents import Column, EvaluateRequest, ExportRequest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.verification.adapter_folder import read_adapter_config
from lora_backend.verification.curve_points import RankCurve
from lora_backend.verification.passport import tensors_sha256
from lora_backend.verification.spectrum import AdapterSpectrum
from lora_backend.views.rank_curve_view import (
    By,
    Choice,
    RowsAsked,
    choice,
    curve_table,
    energy_line,
    first_place,
    knee_message,
    loss_near,
    place_words,
    places,
    rows_to_measure,
    truncated_table,
)
from lora_backend.views.run_view import run_title
from pages.parts.ranks import session
from pages.parts.ranks.curve_chart import rank_chart
from pages.parts.ranks.questions import answer_of, key_of, questions, show_progress
from pages.parts.shell import addresses
from pages.parts.shell.language import explain, say, say_plain, t, t_plain
from pages.parts.shell.markdown import Markdown
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import browser_policy, installation
from pages.parts.widgets.chart import show_chart
from pages.parts.widgets.formats import FIGURE_WIDTH
from pages.parts.widgets.tables import scrolling_table

BY: dict[By, str] = {"rank": N_("Rank"), "energy": N_("Energy kept"), "size": N_("File size")}
MOST_ROWS = 100


def scrubber(adapter: Path, config: Mapping[str, Any] | None, run: RunStore | None) -> None:
    """Truncate `adapter`. `config`: of its `run`, with the rows that can be measured."""
    st.markdown(
        t(
            N_(
                "Make a trained adapter smaller: keep only the strongest directions of every layer, see what each rank costs, then export it."
            )
        )
    )
    try:
        spectrum = _spectrum(adapter)
        if spectrum is None:
            return
        chosen = _slider(spectrum)
        curve = _curve(adapter, config or {}, run)
        _figures(chosen, spectrum, curve)
        chart = rank_chart(energy_line(spectrum), chosen, curve)
        show_chart(chart, key="rank_chart", alt=t_plain(N_("What is kept at each rank")))
        if curve is not None:
            _what_was_measured(curve)
        _export(adapter, chosen, spectrum, run)
        with st.expander(t(N_("Rank of each layer"))):
            scrolling_table(truncated_table(spectrum, chosen))
    except FlightdeckError as error:
        st.warning(say(error.message), icon=":material/warning:")


def _spectrum(adapter: Path) -> AdapterSpectrum | None:
    """Of the adapter's tensors; None while they are read."""
    params = {"adapter": str(adapter)}
    key = key_of("singular_values", params, tensors_sha256(adapter))
    answer = answer_of(questions().ask(key, "singular_values", params))
    if answer is None:
        show_progress(key)
        return None
    return AdapterSpectrum.from_json(answer)


def _slider(spectrum: AdapterSpectrum) -> Choice:
    how, where = st.columns([1, 3], vertical_alignment="bottom")
    by: By = how.segmented_control(
        t(N_("Truncate by")),
        list(BY),
        format_func=lambda word: t(BY[word]),
        default="rank",
        required=True,
        key=session.BY,
    )
    stands = places(spectrum, by)
    if len(stands) == 1:
        return choice(spectrum, by, stands[0])
    value = where.select_slider(
        t(BY[by]),
        stands,
        value=first_place(spectrum, by),
        format_func=lambda place: say(place_words(by, place)),
        key=f"{session.PLACE}_{by}",
    )
    return choice(spectrum, by, value)


def _figures(chosen: Choice, spectrum: AdapterSpectrum, curve: RankCurve | None) -> None:
    with st.container(horizontal=True):
        _figure(t(N_("Ranks")), t("{rank}", rank=chosen.rank_words))
        _figure(t(N_("Energy kept")), t("{percent}%", percent=f"{100 * chosen.energy:.2f}"))
        share = chosen.size_bytes / max(chosen.full_bytes, 1) - 1
        _figure(t(N_("Size")), t("{size}", size=size(chosen.size_bytes)), f"{100 * share:.0f}%" if share else None)
        if curve is not None:
            loss = loss_near(curve, chosen.average)
            is_measured = chosen.by == "rank" and any(point.rank == chosen.average for point in curve.points)
            text = number(loss) if is_measured else f"≈ {number(loss)}"
            lost = loss - curve.full.loss
            _figure(t(N_("Loss")), t("{loss}", loss=text), f"{lost:+.2g}" if lost else None)


def _figure(label: Markdown, value: Markdown, delta: str | None = None) -> None:
    shown = None if delta is None else t("{delta}", delta=delta)
    st.metric(label, value, shown, delta_color="inverse", width=FIGURE_WIDTH)


def _curve(adapter: Path, config: Mapping[str, Any], run: RunStore | None) -> RankCurve | None:
    """The loss over ranks, once it was measured on the rows that are chosen; a button that measures it, until then."""
    asked = _rows(config)
    own = read_adapter_config(adapter) or {}
    base = str(config.get("model_name") or own.get("base_model_name_or_path") or "")
    if asked is None or not base:
        return None
    try:
        allowed_model(base, installation())
        dataset = str(browser_policy().data(asked.path)) if asked.path else None
    except FlightdeckError as error:
        st.caption(say(error.message))
        return None
    request = EvaluateRequest(
        base_model=base,
        columns=[Column(label="adapter", adapter=str(adapter))],
        of_run=None if run is None else run.id,
        dataset=None if asked.is_held_back else dataset,
        max_rows=asked.most,
        values={**asked.values, **({"dataset": dataset} if asked.is_held_back else {})},
    )
    params = {"request": request.to_json(), "are_trained": asked.are_trained}
    key = key_of("rank_curve", params, tensors_sha256(adapter))
    found = questions().find(key)
    if found is None:
        if st.button(t(N_("Measure the loss")), icon=":material/monitoring:", key="measure_loss"):
            questions().ask(key, "rank_curve", params)
            st.rerun()
        return None
    try:
        answer = answer_of(found)
    except FlightdeckError as error:
        questions().drop(key)
        st.warning(say(error.message), icon=":material/warning:")
        return None
    if answer is None:
        show_progress(key)
        return None
    return RankCurve.from_json(answer)


def _rows(config: Mapping[str, Any]) -> RowsAsked | None:
    """Which rows are measured; None while none are named."""
    offers = {one.code: one for one in rows_to_measure(config)}
    which, most = st.columns([3, 1], vertical_alignment="bottom")
    code = which.selectbox(
        t(N_("Rows to measure the loss on")),
        list(offers),
        format_func=lambda word: visible(say_plain(offers[word].label)),
        key=session.ROWS,
    )
    limit = most.number_input(t(N_("Maximum rows")), 1, 10_000, MOST_ROWS, key=session.MOST_ROWS)
    asked = offers[code].but(most=int(limit))
    if asked.path is not None:
        return asked
    named = st.text_input(
        t(N_("File of rows")),
        key=session.ROWS_FILE,
        placeholder="data/held_out.jsonl",
        help=t(N_("Below the workspace or a data root.")),
    ).strip()
    return asked.but(path=named) if named else None


def _what_was_measured(curve: RankCurve) -> None:
    st.success(say(knee_message(curve)), icon=":material/star:")
    said = Plural("Measured on {count} row.", "Measured on {count} rows.")
    st.caption(say(Message(said, {"count": curve.num_rows})))
    if curve.are_trained:
        st.caption(t(N_("The adapter was trained on these rows; on unseen rows the knee may be lower.")))
    scrolling_table(curve_table(curve))


def _export(adapter: Path, chosen: Choice, spectrum: AdapterSpectrum, run: RunStore | None) -> None:
    is_whole = all(chosen.ranks[layer.name] == layer.rank for layer in spectrum.layers)
    is_asked = st.button(
        t(N_("Export at this rank")) if chosen.by == "rank" else t(N_("Export at these ranks")),
        icon=":material/download:",
        type="primary",
        key="export_truncated",
        disabled=is_whole,
        help=t(N_("The adapter already has these ranks.")) if is_whole else None,
    )
    if not is_asked:
        return
    request = ExportRequest(adapter=str(adapter), to="adapter", of_run=None if run is None else run.id, **chosen.limits)
    title = adapter.name if run is None else run_title(run.read_record())
    name = t_plain(N_("{title}, rank {rank}"), title=title, rank=chosen.rank_words)
    try:
        job = start_job(request, installation(), name=name)
    except (ModelError, OSError) as error:
        st.error(explain(error), icon=":material/error:")
        return
    st.switch_page(RUNS, query_params={addresses.RUN: job.id})
