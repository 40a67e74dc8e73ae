"""The table of all runs: any config key or figure as a column, filtered, chosen, and acted upon."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.config.schema import KEYS
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.runs.history.run_table import FIGURES, KIND, History, RunRow, filtered
from lora_backend.runs.history.small_curve import small_curve
from lora_backend.runs.history.trash import Bin
from lora_backend.runs.record.run_labels import write_labels
from lora_backend.runs.record.run_store import RunStore, open_run
from lora_backend.views.compare_view import HOW_MANY, can_compare
from lora_backend.views.run_view import DEFAULT_COLUMNS, HEADS, listed, value_text
from pages.parts.run import session
from pages.parts.shell import addresses
from pages.parts.shell.addresses import page_address
from pages.parts.shell.failing import safely
from pages.parts.shell.language import explain, language, say_plain, t
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import installation
from pages.parts.widgets.frames import frame
from pages.parts.widgets.status_badge import BADGES, state_in_words

COLUMNS = [KIND, *FIGURES, *KEYS]
"""What a table can show beside what it always shows."""
LOSS_CURVE = N_("Loss curve")
MOST_CURVES = 200
"""Runs of which curves are drawn: of more the table would wait for the disk."""


@st.cache_resource(show_spinner=False)
def history(root: str) -> History:
    """One history for all sessions of this dashboard: what it read is read once."""
    return History(Path(root))


def run_history(rows: Sequence[RunRow]) -> None:
    """Filter, table and actions for `rows`."""
    shown = _filter(rows)
    columns = st.multiselect(
        t(N_("Columns")),
        COLUMNS,
        _listed(addresses.RUN_COLUMNS, COLUMNS) or DEFAULT_COLUMNS,
        key=addresses.RUN_COLUMNS,
        label_visibility="collapsed",
        placeholder=t(N_("Config keys and figures as columns")),
    )
    _into_the_address(columns)
    if not shown:
        st.info(t(N_("No runs match. Change the search or the states.")), icon=":material/filter_alt_off:")
        return
    cells = [_cells(row, columns, with_curve=len(shown) <= MOST_CURVES) for row in shown]
    table = st.dataframe(
        frame(cells),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key=table_key([row.id for row in shown]),
        column_config={
            t(N_("Open")): st.column_config.LinkColumn(display_text=":material/open_in_new:", width=50),
            t(N_("State")): st.column_config.Column(width=_state_width(shown)),
            t(LOSS_CURVE): st.column_config.LineChartColumn(width=90),
        },
        placeholder="–",
    )
    chosen = [shown[index] for index in table.selection.rows if index < len(shown)]  # type: ignore[attr-defined]  # of a table with on_select
    _actions(chosen)


def _state_width(rows: Iterable[RunRow]) -> int | None:
    """Wide enough for how a loss ended, which would be cut off after a reassuring *Finished*; None: as narrow as it is."""
    return 240 if any(row.health.is_told_beside(row.state.state) for row in rows) else None


def table_key(ids: Iterable[str]) -> str:
    """The table's key. What is chosen are places in it: with other rows, or in another order, they would be other runs."""
    return f"{session.RUN_TABLE}-{hashlib.sha256(','.join(ids).encode()).hexdigest()[:12]}"


def _filter(rows: Sequence[RunRow]) -> list[RunRow]:
    left, middle, right = st.columns([2, 2, 1], vertical_alignment="bottom")
    text = left.text_input(
        t(N_("Filter")),
        st.query_params.get(addresses.RUN_FILTER, ""),
        key=addresses.RUN_FILTER,
        placeholder=t(N_("words of id, name, kind, tags, note or config")),
    )
    states = middle.multiselect(
        t(N_("States")),
        list(BADGES),
        _listed(addresses.RUN_STATES, list(BADGES)),
        format_func=state_in_words,
        key=addresses.RUN_STATES,
        placeholder=t(N_("all states")),
    )
    with_archived = right.toggle(t(N_("Show archived")), key=addresses.RUN_ARCHIVED)
    return [row for row in filtered(rows, text, states) if with_archived or not row.labels.archived]


def _listed(key: str, known: Sequence[str]) -> list[str]:
    """What the address says of a choice of several."""
    return [word for word in st.query_params.get(key, "").split(",") if word in known]


def _into_the_address(columns: Sequence[str]) -> None:
    """What the table shows, so that a link shows it too, in any language."""
    state = st.session_state
    words = {
        addresses.RUN_FILTER: state[addresses.RUN_FILTER],
        addresses.RUN_STATES: ",".join(state[addresses.RUN_STATES]),
        addresses.RUN_COLUMNS: "" if tuple(columns) == DEFAULT_COLUMNS else ",".join(columns),
    }
    for key, text in words.items():
        if text:
            st.query_params[key] = text
        else:
            st.query_params.pop(key, None)


def _cells(row: RunRow, columns: Sequence[str], *, with_curve: bool) -> dict[str, Any]:
    shown = listed(row, columns)
    cells: dict[str, Any] = {
        t(N_("Open")): page_address(RUNS, **{addresses.RUN: row.id}),
        t(HEADS["name"]): shown.name,
        t(HEADS["state"]): say_plain(shown.state),
        **{t(HEADS[name]): getattr(shown, name) for name in ("started", "step", "tags", "id")},
    }
    if with_curve:
        cells[t(LOSS_CURVE)] = list(small_curve(RunStore(installation().runs / row.id)))
    for name, value in shown.values.items():
        is_sortable = value is None or isinstance(value, int | float | bool)
        cells[name] = value if is_sortable else value_text(name, value, 80, language())
    return cells


def _actions(chosen: Sequence[RunRow]) -> None:
    if not chosen:
        st.caption(t(N_("Select runs in the table to compare, tag, archive or delete them.")))
        return
    ids = [row.id for row in chosen]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if can_compare(ids):
            st.page_link(
                RUNS,
                label=t(N_("Compare {count} runs"), count=len(ids)),
                icon=":material/compare_arrows:",
                query_params={addresses.COMPARE: ",".join(ids)},
            )
        else:
            st.caption(t(HOW_MANY))
        pinned = all(row.labels.pinned for row in chosen)
        st.button(
            t(N_("Unpin")) if pinned else t(N_("Pin")),
            icon=":material/push_pin:",
            on_click=safely(_label),
            args=(ids,),
            kwargs={"pinned": not pinned},
            key="pin_runs",
        )
        archived = all(row.labels.archived for row in chosen)
        st.button(
            t(N_("Unarchive")) if archived else t(N_("Archive")),
            icon=":material/archive:",
            on_click=safely(_label),
            args=(ids,),
            kwargs={"archived": not archived},
            key="archive_runs",
        )
        st.button(t(N_("Delete")), icon=":material/delete:", on_click=safely(_delete), args=(ids,), key="delete_runs")
        with st.popover(t(N_("Tags")), icon=":material/sell:"), st.form("tags", border=False):
            key = f"tags_text-{','.join(ids)}"
            if key not in st.session_state:
                common = [tag for tag in chosen[0].labels.tags if all(tag in row.labels.tags for row in chosen)]
                st.session_state[key], st.session_state[session.SHOWN_TAGS] = ", ".join(common), common
            st.text_input(t(N_("Tags, separated by commas")), key=key)
            st.form_submit_button(t(N_("Apply to the selected runs")), on_click=safely(_set_tags), args=(ids, key))


def _set_tags(ids: Sequence[str], key: str) -> None:
    """Add what is written beside the tags that the field was filled with, and take away what is struck out of them.

    Another tab may have written some since, and those stay.
    """
    shown = st.session_state[session.SHOWN_TAGS]
    written = [tag.strip() for tag in st.session_state[key].split(",") if tag.strip()]
    added, removed = [tag for tag in written if tag not in shown], [tag for tag in shown if tag not in written]
    if _label(ids, added=added, removed=removed):
        del st.session_state[key]  # filled anew, with what others have written too


def _label(ids: Sequence[str], **labels: Any) -> bool:
    """Whether all of them were labelled; of each that was not it is said why."""
    done = True
    for run_id in ids:
        try:
            write_labels(open_run(installation().runs, run_id).path, **labels)
        except (RunError, OSError) as error:
            done = False
            st.toast(explain(error))
    return done


def _delete(ids: Sequence[str]) -> None:
    deleted = []
    for run_id in ids:
        try:
            Bin(installation().workspace).delete(open_run(installation().runs, run_id))
            deleted.append(run_id)
        except (RunError, OSError) as error:
            st.toast(explain(error))
    st.session_state[session.DELETED] = deleted
