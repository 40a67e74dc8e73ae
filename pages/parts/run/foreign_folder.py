"""A folder of a training that was not started here: curves, ranks and checkpoints, and nothing that would change it."""

from __future__ import annotations

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.escaping import visible_lines
from lora_backend.formats import number, when
from lora_backend.i18n import N_
from lora_backend.preflight.fits import known_fit
from lora_backend.preflight.roots import allowed_folder, browser_roots
from lora_backend.runs.foreign.foreign_folder import FoundFolder, open_folder
from lora_backend.runs.history.loss_health import judge_loss, points_of
from lora_backend.runs.record.curves import points
from lora_backend.runs.record.documents import RunRecord
from lora_backend.runs.record.logs import read_log
from lora_backend.runs.record.states import RunState
from lora_backend.verification.rank_report import check_adapter_folder
from pages.parts.ranks.base import base_in_roots
from pages.parts.ranks.view import show_report
from pages.parts.run import session
from pages.parts.run.alerts import how_its_loss_ended
from pages.parts.run.curves import SMALL_CHARTS, chosen_look, draw_curves
from pages.parts.shell import addresses
from pages.parts.shell.addresses import page_address
from pages.parts.shell.header import page_header
from pages.parts.shell.language import say, sentences, t
from pages.parts.shell.markdown import Markdown, escape, joined
from pages.parts.shell.navigation import RUNS, VERIFY
from pages.parts.shell.services import installation
from pages.parts.widgets.formats import FIGURE_WIDTH, duration
from pages.parts.widgets.frames import frame
from pages.parts.widgets.status_badge import BADGES, status_badge

MOST_CONFIG_BYTES = 1_000_000


def folder_box(name: str = "") -> None:
    """Where a folder is named; it opens at an address of its own."""
    with (
        st.expander(t(N_("Open an external training folder")), icon=":material/folder_open:", expanded=bool(name)),
        st.form("open_folder", border=False),
    ):
        st.caption(
            t(
                N_(
                    "The output folder of transformers' Trainer, TRL, axolotl or LLaMA-Factory, one of its checkpoints, an adapter, or a run copied from another machine. It is read and never changed."
                )
            )
        )
        typed = st.text_input(
            t(N_("Folder")),
            name,
            key=session.FOLDER_NAME,
            placeholder="outputs/my-lora",
            help=t(N_("Below the workspace or a model root; relative paths start at the workspace.")),
        )
        if st.form_submit_button(t(N_("Open the folder")), icon=":material/folder_open:") and typed.strip():
            st.switch_page(RUNS, query_params={addresses.FOLDER: typed.strip()})


def found_folder(name: str) -> None:
    """The page of the folder that the address names."""
    try:
        found = open_folder(allowed_folder(name, installation()), browser_roots(installation()))
    except FlightdeckError as error:
        page_header(t(N_("Runs")))
        st.warning(say(error.message), icon=":material/search_off:")
        folder_box(name)
    else:
        page_header(escape(found.title), escape(found.path))
        _what_it_is(found)
        _figures(found)
        _parts(found)
    st.page_link(RUNS, label=t(N_("All runs")), icon=":material/arrow_back:")


def _what_it_is(found: FoundFolder) -> None:
    is_ours = bool(found.run) and found.path.parent.resolve() == installation().runs.resolve()
    health = judge_loss(points_of(found.columns))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(t(N_("Read-only")), color="gray", icon=":material/lock:")
        if found.state:
            status_badge(found.state.state if found.state.state in BADGES else "lost", health)
        if not is_ours:
            st.caption(t(N_("It was not started here, so it is read-only.")))
    how_its_loss_ended(found.state or RunState("finished"), health)
    if found.run and is_ours:
        st.info(t(N_("This is a run of this workspace; its own page can do more.")), icon=":material/info:")
        st.page_link(
            RUNS, label=t(N_("Open its page")), icon=":material/show_chart:", query_params={addresses.RUN: found.run.id}
        )
    elif found.run and found.state and found.record:
        _copied_run(found.record, found.run.id, found.state)
    for problem in found.problems:
        st.warning(say(problem), icon=":material/warning:")


def _copied_run(record: RunRecord, run_id: str, state: RunState) -> None:
    moment = when(record.created_at) if record.created_at is not None and 0 <= record.created_at < 2**34 else "–"
    said = [
        t(
            N_("A run of LoRA Flightdeck that was copied here: {id}, started by {actor} at {time}."),
            id=run_id,
            actor=record.actor or "–",
            time=moment,
        )
    ]
    if state.state == "lost":
        said.append(
            t(
                N_(
                    "None of its processes is on this machine, and nothing says how it ended; it may still be running where it was started."
                )
            )
        )
    elif state.message:
        said.append(say(state.message))
    st.info(sentences(said), icon=":material/info:")


def _figures(found: FoundFolder) -> None:
    def last(key: str) -> float | None:
        values = points(found.columns, key)[1]
        return float(values[-1]) if len(values) else None

    figures: list[tuple[Markdown, Markdown | None]] = [
        (t(N_("Step")), _steps(found)),
        (t(N_("Epoch")), _shown(found.epoch, 3)),
        (t(N_("Loss")), _shown(last("loss"))),
        (t(N_("Evaluation loss")), _shown(last("eval_loss"))),
        (t(N_("Best metric")), _shown(found.best_metric)),
    ]
    with st.container(horizontal=True):
        for label, value in figures:
            if value:
                st.metric(label, value, border=True, width=FIGURE_WIDTH)
    facts = []
    if found.base_model:
        facts.append(t(N_("Base model: {name}"), name=found.base_model))
    if found.best_checkpoint:
        facts.append(t(N_("Best checkpoint: {name}"), name=found.best_checkpoint))
    if found.runtime_s is not None:
        facts.append(t(N_("took {time}"), time=duration(found.runtime_s)))
    if found.source:
        facts.append(t(N_("Curves from {file}"), file=str(found.source.relative_to(found.path))))
    if facts:
        st.caption(joined(" · ", facts))


def _shown(value: float | None, digits: int = 4) -> Markdown | None:
    return None if value is None else escape(number(value, digits))


def _steps(found: FoundFolder) -> Markdown | None:
    if found.step is None:
        return None
    return escape(f"{found.step} / {found.total_steps}" if found.total_steps else found.step)


def _parts(found: FoundFolder) -> None:
    names = [t(N_("Curves")), t(N_("Ranks")), t(N_("Checkpoints"))]
    if found.run:
        names += [t(N_("Config used")), t(N_("Log"))]
    tabs = st.tabs(names)
    with tabs[0]:
        _curves(found)
    with tabs[1]:
        _ranks(found)
    with tabs[2]:
        _checkpoints(found)
    if found.run:
        with tabs[3]:
            _config(found)
        with tabs[4]:
            log = read_log(found.run.train_log).text
            st.code(visible_lines(log) or t(N_("Nothing is logged yet.")), language=None, wrap_lines=True, height=420)


def _curves(found: FoundFolder) -> None:
    columns, name = found.columns, found.path.name
    if not any(len(points(columns, key)[0]) for key in ("loss", "eval_loss", *(chart[0] for chart in SMALL_CHARTS))):
        st.info(t(N_("This folder has no record of the loss.")), icon=":material/show_chart:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        look = chosen_look(name)
    draw_curves(columns, look, name)


def _ranks(found: FoundFolder) -> None:
    if found.adapter is None:
        st.info(t(N_("There is no adapter in this folder, nor in a checkpoint of it.")), icon=":material/verified:")
        return
    try:
        report = check_adapter_folder(
            found.adapter,
            found.record.config if found.record else None,
            find_base=base_in_roots,
            ask_tree=known_fit(installation()),
        )
    except FlightdeckError as error:
        st.error(say(error.message), icon=":material/error:")
    else:
        if found.adapter != found.path:
            st.caption(t(N_("Of the adapter in {folder}"), folder=str(found.adapter.relative_to(found.path))))
        show_report(report, "found")
    st.page_link(
        VERIFY,
        label=t(N_("More on the Verify page")),
        icon=":material/verified:",
        query_params={addresses.ADAPTER: str(found.adapter)},
    )


def _checkpoints(found: FoundFolder) -> None:
    if not found.checkpoints:
        st.info(t(N_("There is no checkpoint in this folder.")), icon=":material/save:")
        return
    yes, no = t(N_("yes")), t(N_("no"))
    rows = []
    for checkpoint in reversed(found.checkpoints):
        address = page_address(VERIFY, **{addresses.ADAPTER: str(checkpoint.path)})
        rows.append(
            {
                t(N_("Checkpoint")): checkpoint.path.name,
                t(N_("Step")): checkpoint.step,
                t(N_("Saved")): when(checkpoint.saved_at),
                t(N_("Best")): "★" if checkpoint.path.name == found.best_checkpoint else "",
                t(N_("Adapter")): yes if checkpoint.has_adapter else no,
                t(N_("Ranks")): address if checkpoint.has_adapter else None,
            }
        )
    st.dataframe(
        frame(rows),
        hide_index=True,
        column_config={t(N_("Ranks")): st.column_config.LinkColumn(display_text=t(N_("Check")))},
        placeholder="–",
    )


def _config(found: FoundFolder) -> None:
    assert found.run
    text = found.run.config_text()
    if text is None:
        st.info(t(N_("The run's config file no longer exists.")))
    else:
        st.code(visible_lines(text[:MOST_CONFIG_BYTES]), language="yaml")
