"""What came of an export, on the page of its job: proofs, files, a way to take it along, commands."""

from __future__ import annotations

import io
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.escaping import visible_lines
from lora_backend.formats import size
from lora_backend.i18n import N_
from lora_backend.installation import is_within
from lora_backend.preflight.export_place import MARKER, is_export
from lora_backend.runs.record.job_documents import ExportResult
from lora_backend.runs.record.run_store import RunStore
from lora_backend.symlinks import is_unlinked_file, is_unlinked_folder, links_below
from lora_backend.views.export_view import SIGNS, export_summary, file_table, proof_lines, rank_summary
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import bold
from pages.parts.shell.services import installation
from pages.parts.widgets.tables import scrolling_table

MOST_FILE_BYTES, MOST_ZIPPED_BYTES = 512 * 2**20, 64 * 2**20
"""What a browser is given; the whole of it goes through this process's memory."""
COLOURS = {True: ":green[{sign} {title}]", False: ":red[{sign} {title}]", None: ":gray[{sign} {title}]"}


def show_export(run: RunStore) -> None:
    """The result of an export that has ended well; nothing before."""
    result = run.read_result(ExportResult)
    if result is None:
        return
    show = st.success if result.is_proved else st.error
    show(say(export_summary(result)), icon=":material/check_circle:" if result.is_proved else ":material/error:")
    if ranks := rank_summary(result):
        st.caption(say(ranks))
    for proof in proof_lines(result):
        title = t(COLOURS[proof.passed], sign=SIGNS[proof.passed], title=proof.title)
        st.markdown(f"**{title}** · {say(proof.message)}")
    for note in result.notes:
        st.caption(say(note))
    if result.to != "hub":
        _download(run, result)
    if result.files:
        scrolling_table(file_table(result))
    if result.commands:
        st.markdown(bold(t(N_("How to use it"))))
    for command in result.commands:
        st.code(visible_lines(command), language="python" if "import " in command else "bash", wrap_lines=True)


def _download(run: RunStore, result: ExportResult) -> None:
    """The file, read when somebody asks for it; of a small folder an archive; else where it is."""
    path = Path(result.output)
    if not _may_be_given(run, path):
        st.caption(t(N_("Saved in {path}."), path=result.output))
        return
    limit = MOST_FILE_BYTES if path.is_file() else MOST_ZIPPED_BYTES
    total = path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in _files_in(path))
    if total > limit:
        st.caption(t(N_("Saved in {path}. At {size} it is too large to download in a browser."), path=result.output, size=size(total)))  # fmt: skip
        return
    data: Any = partial(path.open, "rb") if path.is_file() else partial(_zipped, path)
    st.download_button(
        t(N_("Download")),
        data,
        file_name=path.name if path.is_file() else f"{path.name}.zip",
        icon=":material/download:",
        type="primary",
        on_click="ignore",
        key=f"download_export_{run.id}",
    )


def _may_be_given(run: RunStore, path: Path) -> bool:
    """Whether the path is an export of ours, in the job's own folder or below an output root: the result of a job that was
    copied here may name any file."""
    try:
        is_there = is_unlinked_file(path) or (is_unlinked_folder(path) and not links_below(path))
        is_allowed = is_within(path, (run.output, *installation().output_roots))
        return is_there and is_allowed and is_export(path)
    except (OSError, ValueError):
        return False


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)


def _zipped(folder: Path) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in _files_in(folder):
            archive.write(path, path.relative_to(folder))
    packed.seek(0)
    return packed
