"""The bin: deleted runs, replaced adapters and exports, each with its way back, and what all of it takes on the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.formats import size, when
from lora_backend.i18n import N_, Plural
from lora_backend.runs.history.replaced_adapters import AdapterBin, BinnedAdapter
from lora_backend.runs.history.replaced_exports import BinnedExport, ExportBin
from lora_backend.runs.history.trash import Bin, Deleted, disk_bytes
from pages.parts.run import session
from pages.parts.shell.failing import safely
from pages.parts.shell.language import explain, t
from pages.parts.shell.markdown import joined
from pages.parts.shell.services import installation


def undo_of_delete() -> None:
    """A line after a deletion, with the way back."""
    deleted = st.session_state.get(session.DELETED)
    if not deleted:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(t(Plural("{count} run is in the trash.", "{count} runs are in the trash."), count=len(deleted)))
        st.button(
            t(N_("Undo")), icon=":material/undo:", on_click=safely(_restore_runs), args=(deleted,), key="undo_delete"
        )


def bin_and_disk() -> None:
    """What lies in the bin and what all runs take; asked for, because it looks at every file."""
    with st.expander(t(N_("Trash and disk usage")), icon=":material/delete:"):
        try:
            _contents(Bin(installation().workspace), AdapterBin(installation()), ExportBin(installation()))
        except (FlightdeckError, OSError) as error:
            st.warning(explain(error), icon=":material/error:")


def _contents(runs: Bin, adapters: AdapterBin, exports: ExportBin) -> None:
    if st.button(t(N_("Measure disk use")), key="measure_disk"):
        used = {"runs": size(disk_bytes(runs.runs)), "bin": size(disk_bytes(runs.folder))}
        st.caption(t(N_("Runs take {runs}, the trash {bin}."), **used))
    deleted, replaced, exported = runs.list(), adapters.list(), exports.list()
    if not (deleted or replaced or exported):
        st.caption(t(N_("The trash is empty.")))
        return
    for run in deleted:
        _run(run)
    for adapter in replaced:
        _adapter(adapter)
    for export in exported:
        _export(export)
    if st.checkbox(t(N_("Yes, delete these permanently.")), key="empty_sure") and st.button(
        t(N_("Empty trash")), type="primary", key="empty_bin"
    ):
        runs.empty()
        adapters.empty()
        exports.empty()
        st.session_state.pop(session.DELETED, None)
        st.rerun()


def _run(run: Deleted) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(joined(" · ", (run.id, when(run.deleted_at), run.actor)))
        st.button(t(N_("Restore")), key=f"restore-{run.id}", on_click=safely(_restore_runs), args=([run.id],))


def _adapter(adapter: BinnedAdapter) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        said = N_("Adapter {title}, replaced by run {run} · {time} · {actor}")
        st.caption(
            t(said, title=adapter.title, run=adapter.replaced_by, time=when(adapter.deleted_at), actor=adapter.actor)
        )
        st.button(
            t(N_("Restore")),
            key=f"restore-adapter-{adapter.id}",
            on_click=safely(_restore_adapter),
            args=(adapter.id,),
        )


def _export(export: BinnedExport) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        said = N_("Export {place}, replaced by {run} · {time} · {actor}")
        st.caption(
            t(said, place=export.place, run=export.replaced_by, time=when(export.deleted_at), actor=export.actor)
        )
        st.button(
            t(N_("Restore")), key=f"restore-export-{export.id}", on_click=safely(_restore_export), args=(export.id,)
        )


def _restore_runs(ids: Sequence[str]) -> None:
    for run_id in ids:
        _trying(partial(_restore_run, run_id))
    st.session_state.pop(session.DELETED, None)


def _restore_adapter(entry_id: str) -> None:
    _trying(lambda: AdapterBin(installation()).restore(entry_id))


def _restore_export(entry_id: str) -> None:
    _trying(lambda: ExportBin(installation()).restore(entry_id))


def _restore_run(run_id: str) -> None:
    Bin(installation().workspace).restore(run_id)


def _trying(act: Callable[[], object]) -> None:
    try:
        act()
    except (FlightdeckError, OSError) as error:
        st.toast(explain(error))
