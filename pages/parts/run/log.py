"""A run's log, or that of each of its processes: its end while it grows, parts before it, and the records that are searched for."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lora_backend.bounded import open_regular
from lora_backend.escaping import visible_lines
from lora_backend.formats import size
from lora_backend.i18n import N_, Plural
from lora_backend.runs.record.logs import LEVELS, SEARCHED_BYTES, LogPart, logs_of, read_log, search_log
from lora_backend.runs.record.run_store import RunStore
from lora_backend.symlinks import is_unlinked_file
from pages.parts.run import session
from pages.parts.shell.failing import safely
from pages.parts.shell.language import t
from pages.parts.shell.markdown import Markdown, joined

EVERYTHING = LEVELS[0]
FILTERS = {EVERYTHING: N_("Everything"), "INFO": N_("Records"), "WARNING": N_("Warnings"), "ERROR": N_("Errors")}


def run_log(run: RunStore) -> None:
    """Which process's, search, level, parts by byte offset, download."""
    rank = _chosen_rank(run)
    path = run.peer_log(rank)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input(t(N_("Search")), key=f"log-words-{run.id}", placeholder=t(N_("all words must match")))
        level = st.segmented_control(
            t(N_("Level")),
            list(FILTERS),
            format_func=lambda name: t(FILTERS[name]),
            default=EVERYTHING,
            required=True,
            key=f"log-level-{run.id}",
        )
    searches = bool(words.strip()) or level != EVERYTHING
    end = _end(run, rank)
    part = search_log(path, words, level, end) if searches else read_log(path, end)
    with st.container(height=420, autoscroll=part.is_newest):
        empty = N_("Nothing in the log matches.") if searches else N_("Nothing is logged yet.")
        st.code(visible_lines(part.text) or t(empty), language=None, wrap_lines=True)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            t(N_("Older")),
            icon=":material/arrow_upward:",
            key="log_older",
            on_click=safely(_go),
            args=(run, rank, part.start),
            disabled=part.start == 0,
        )
        st.button(
            t(N_("Newest")),
            icon=":material/vertical_align_bottom:",
            key="log_newest",
            on_click=safely(_go),
            args=(run, rank, None),
            disabled=end is None,
        )
        st.caption(_where(part, searches=searches))
        if is_unlinked_file(path):
            st.download_button(
                t(N_("Download the whole log")),
                lambda: _whole(path),
                file_name=f"{run.id}.{rank}.log" if rank else f"{run.id}.log",
                on_click="ignore",
                key="log_file",
                icon=":material/download:",
            )


def _chosen_rank(run: RunStore) -> int:
    """The process whose log is shown; where several train together one is chosen."""
    ranks = list(logs_of(run))
    if len(ranks) < 2:
        return 0
    return st.segmented_control(
        t(N_("Process")),
        ranks,
        format_func=lambda rank: t(N_("Process {rank}"), rank=rank),
        default=0 if 0 in ranks else ranks[0],
        required=True,
        key=f"log-rank-{run.id}",
    )


def _whole(path: Path) -> bytes:
    with open_regular(path, follow=False) as file:
        return file.read()


def _where(part: LogPart, *, searches: bool) -> Markdown:
    place = t(N_("{start} to {end} of {size}"), start=size(part.start), end=size(part.end), size=size(part.size_bytes))
    if not searches:
        return place
    found = t(Plural("{count} record found", "{count} records found"), count=part.num_found)
    looked = t(N_("searches up to {size} at a time"), size=size(SEARCHED_BYTES))
    return joined(" · ", (found, place, *([looked] if part.start else [])))


def _end(run: RunStore, rank: int) -> int | None:
    """Where the part that is looked at ends; None follows the log."""
    looked_at, end = st.session_state.get(session.LOG_END, (None, None))
    return end if looked_at == (run.id, rank) else None


def _go(run: RunStore, rank: int, end: int | None) -> None:
    st.session_state[session.LOG_END] = ((run.id, rank), end)
