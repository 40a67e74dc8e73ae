"""One run on the screen: figures, curves, log, config, ranks, answers."""

from __future__ import annotations

import streamlit as st

from lora_backend.escaping import visible_lines
from lora_backend.formats import gib, number
from lora_backend.i18n import N_
from lora_backend.runs.history.checkpoint_list import saved_steps
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.curves import points
from lora_backend.runs.record.documents import Answer
from lora_backend.runs.record.failures import TOLD_BY_THE_LOG
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.views.rank_view import LayerRow, rank_table
from lora_backend.views.run_view import progress_parts
from lora_backend.views.state_view import passed_over_messages, stage_parts, stopping_messages
from pages.parts.ranks.view import show_verdict
from pages.parts.run.actions import other_gpus, run_actions, what_it_waits_for
from pages.parts.run.alerts import how_its_loss_ended, run_alerts, say_that_it_ended
from pages.parts.run.checkpoints import run_checkpoints, say_that_it_saved
from pages.parts.run.curves import run_columns, run_curves
from pages.parts.run.labels import run_labels
from pages.parts.run.log import run_log
from pages.parts.run.machines import run_machines
from pages.parts.run.memory import memory_view
from pages.parts.run.next_steps import next_steps
from pages.parts.run.processes import run_processes
from pages.parts.run.reproduce import run_reproduce
from pages.parts.run.resume import run_again
from pages.parts.run.samples import show_samples
from pages.parts.run.usage import usage_now
from pages.parts.shell import addresses
from pages.parts.shell.failing import sheltered, show_notices
from pages.parts.shell.language import say, sentences, t
from pages.parts.shell.markdown import Markdown, bold, escape, joined
from pages.parts.shell.navigation import VERIFY
from pages.parts.widgets.charts import Columns
from pages.parts.widgets.formats import FIGURE_WIDTH
from pages.parts.widgets.status_badge import stage_in_words, status_badge
from pages.parts.widgets.tables import scrolling_table

TICK_S = 2
GROUPS = {"english": N_("English"), "chinese": N_("Chinese"), "ordinary": N_("Ordinary questions"), "": N_("Questions")}


def run_page(run: RunStore) -> None:
    """One run: made anew every two seconds while it goes on; once it has ended nothing on its page asks again.

    Both are the same fragment. So the browser takes what it shows of an ended run for what stood there before, and
    tab, zoom and place on the page stay as they are.
    """
    run_every = None if recover(run).has_ended else TICK_S
    st.fragment(_run, run_every=run_every)(run, run_every is not None)


@sheltered()
def _run(run: RunStore, is_live: bool) -> None:
    state = recover(run)
    if not run.run_json.exists():
        st.rerun()
    if is_live and state.has_ended:
        # Before anything of its end is drawn: a button to download with would be another one a moment later, and a click
        # on the first come to nothing.
        st.rerun()
    show_notices()
    say_that_it_saved(run, state)
    say_that_it_ended(run, state)
    columns = run_columns(run)
    _head(run, state, columns)
    _body(run, state, columns)


def _head(run: RunStore, state: RunState, columns: Columns) -> None:
    # One box, whatever stands in it: so the tabs below keep their place when the run's state changes, and the
    # browser never shows the old and the new ones at once.
    with st.container():
        _state(run, state)
        _progress(run, state, columns)
        run_alerts(run, state, columns)
        how_its_loss_ended(state, health_of(run))
        if state.has_ended:
            if state.state == "finished":
                next_steps(run)
            run_again(run, state)


def _state(run: RunStore, state: RunState) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            status_badge(state.state, health_of(run))
            if not state.has_ended and state.state != "queued":
                st.caption(joined(" · ", map(say, stage_parts(state))))
        with st.container(horizontal=True, width="content"):
            run_actions(run, state)
            run_labels(run)
    if state.state == "queued":
        what_it_waits_for(run)
        other_gpus(run)
    run_machines(run, state)
    if state.message:
        parts = [
            say(state.message),
            *([say(state.remedy)] if state.remedy else []),
            t(N_("The log below has the details.")),
        ]
        as_asked = state.state in ("stopped", "finished")
        show = st.info if as_asked else st.error
        show(sentences(parts), icon=":material/info:" if as_asked else ":material/error:")
        ended = run.read_exit()
        if lines := ended.log if ended else []:
            with st.expander(t(N_("The log's last lines")), expanded=state.cause in TOLD_BY_THE_LOG):
                st.code(visible_lines("\n".join(lines)), language=None, wrap_lines=True)
    elif state.state == "stopping":
        st.info(sentences(map(say, stopping_messages(run))), icon=":material/hourglass_bottom:")
    if passed_over := passed_over_messages(run):
        st.warning(sentences(map(say, passed_over)), icon=":material/broken_image:")
    if note := run.read_attempt().resume_note:
        st.info(say(note), icon=":material/group:")


def _progress(run: RunStore, state: RunState, columns: Columns) -> None:
    if state.total_steps:
        parts = progress_parts(state, columns, saved_steps(run))
        st.progress(min(state.step / state.total_steps, 1.0), joined(" · ", map(say, parts)))
    if state.fraction is not None and not state.has_ended:
        st.progress(min(state.fraction, 1.0), stage_in_words(state.stage))


def _body(run: RunStore, state: RunState, columns: Columns) -> None:
    _figures(columns)
    names = (N_("Curves"), N_("Log"), N_("Checkpoints"), N_("Memory"), N_("Config used"), N_("Ranks"), N_("Answers"))
    curves, log, checkpoints, memory, config, ranks, answers = st.tabs(
        [t(name) for name in names], key=f"parts-{run.id}"
    )
    with curves:
        run_curves(run, columns, state)
    with log:
        run_processes(run)
        run_log(run)
    with checkpoints:
        run_checkpoints(run, state, columns)
    with memory:
        if state.state in ("running", "stopping"):
            usage_now(run)
        memory_view(run, has_ended=state.has_ended)
    with config:
        run_reproduce(run)
    with ranks:
        _ranks(run, state)
    with answers:
        _answers(run, state)


def _figures(columns: Columns) -> None:
    def last(key: str) -> float | None:
        values = points(columns, key)[1]
        return float(values[-1]) if len(values) else None

    tokens_per_s = last("tokens_per_s")
    speed = "–" if tokens_per_s is None else f"{tokens_per_s:,.0f}"
    figures = {
        N_("Loss"): number(last("loss")),
        N_("Evaluation loss"): number(last("eval_loss")),
        N_("Learning rate"): number(last("learning_rate"), 3),
        N_("Tokens/s"): speed,
        N_("Memory"): gib(last("memory_bytes")),
    }
    with st.container(horizontal=True):
        for label, value in figures.items():
            st.metric(t(label), escape(value), border=True, width=FIGURE_WIDTH)


def _nothing_there(state: RunState, before: str, after: str, icon: str) -> None:
    """In the place of what a run has not made: what it waits for, or why it will never have it."""
    st.info(t(after if state.has_ended else before), icon=f":material/{icon}:")


def _ranks(run: RunStore, state: RunState) -> None:
    report = run.read_rank_report()
    if report is None:
        before = N_("The ranks are checked when the model is loaded.")
        after = N_("It ended before its ranks were checked, or its config does not ask for that.")
        _nothing_there(state, before, after, "verified")
        return
    show_verdict(report)
    scrolling_table(rank_table([LayerRow(record) for record in report.layers]))
    if state.state == "finished":
        st.page_link(
            VERIFY,
            label=t(N_("Check the saved adapter")),
            icon=":material/verified:",
            query_params={addresses.RUN: run.id},
        )


def _answers(run: RunStore, state: RunState) -> None:
    answers = [answer for answer in run.read_answers() if answer.question]
    if not answers:
        if show_samples(run):
            return
        before = N_("Once trained, base model and adapter answer the config's questions here, if it names any.")
        after = N_("This run has no answers: its config names no `questions`.")
        _nothing_there(state, before, after, "forum")
        return
    groups = list(dict.fromkeys(answer.group for answer in answers))
    for column, group in zip(st.columns(len(groups)), groups, strict=True):
        rows = [answer for answer in answers if answer.group == group and answer.base_correct is not None]
        right = sum(bool(answer.adapter_correct) for answer in rows)
        base = sum(bool(answer.base_correct) for answer in rows)
        title = t(GROUPS[group]) if group in GROUPS else escape(group)
        column.metric(
            t(N_("{group}: right with the adapter"), group=title),
            escape(f"{right} / {len(rows)}"),
            t(N_("base model {base} / {count}"), base=base, count=len(rows)),
            delta_color="off",
            delta_arrow="off",
            border=True,
        )
    for answer in answers:
        _answer(answer)
    show_samples(run)


def _answer(answer: Answer) -> None:
    with st.container(border=True):
        st.markdown(bold(answer.question))
        base, adapter = st.columns(2)
        base.caption(t(N_("Base model")) + _mark(answer.base_correct))
        base.text(visible_lines(answer.base_answer or "–"))
        adapter.caption(t(N_("With the adapter")) + _mark(answer.adapter_correct))
        adapter.text(visible_lines(answer.adapter_answer or "–"))


def _mark(is_correct: bool | None) -> Markdown:
    if is_correct is None:
        return Markdown()
    return Markdown(f" · :green[✓ {t(N_('right'))}]" if is_correct else f" · :red[✗ {t(N_('wrong'))}]")
