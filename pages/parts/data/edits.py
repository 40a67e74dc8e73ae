"""Rows that were changed or left out on the page, until they are written into a new file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from lora_backend.data.edited_rows import checked_row, write_edited
from lora_backend.data.local_files import name_of
from lora_backend.data.raw_rows import RawRow
from lora_backend.data.row_text import line_of, typed_row
from lora_backend.errors import DataError
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_, Message, Plural
from pages.parts.data import session
from pages.parts.data.choose import open_data_set
from pages.parts.data.subject import Subject
from pages.parts.shell.failing import safely, tell
from pages.parts.shell.language import say, t
from pages.parts.shell.services import installation
from pages.parts.widgets.rows_reading import reading_bar

FIELD = "data-row-text-"
LONGEST_LINE = 4000


def edits_of(path: Path) -> dict[int, str | None]:
    """What was changed of this file and is not written yet."""
    kept: tuple[str, dict[int, str | None]] | None = st.session_state.get(session.EDITS)
    return dict(kept[1]) if kept is not None and kept[0] == str(path) else {}


def set_edits(path: Path, edits: Mapping[int, str | None]) -> None:
    """Keep them for this session."""
    st.session_state[session.EDITS] = (str(path), dict(edits))


def is_open(path: Path, row: int) -> bool:
    """Whether that row is open for editing."""
    return st.session_state.get(session.EDITED_ROW) == (str(path), row)


def open_row(path: Path, row: int) -> None:
    """Open a row for editing."""
    st.session_state[session.EDITED_ROW] = (str(path), row)
    st.session_state.pop(session.ROW_PROBLEM, None)


def leave_out(path: Path, *rows: int) -> None:
    """Leave rows out of the new file."""
    set_edits(path, {**edits_of(path), **dict.fromkeys(rows)})
    if any(is_open(path, row) for row in rows):
        st.session_state.pop(session.EDITED_ROW, None)


def keep_as_it_was(path: Path, row: int) -> None:
    """Take back what was changed of a row."""
    set_edits(path, {number: text for number, text in edits_of(path).items() if number != row})


def row_buttons(path: Path, row: int) -> None:
    """Edit it, leave it out, or take that back."""
    edits = edits_of(path)
    if row in edits:
        st.button(t(N_("Restore row")), icon=":material/undo:", type="tertiary", key=f"restore-{row}", on_click=safely(keep_as_it_was), args=(path, row))  # fmt: skip
    if edits.get(row, "") is not None:
        st.button(t(N_("Edit")), icon=":material/edit:", type="tertiary", key=f"edit-{row}", on_click=safely(open_row), args=(path, row))  # fmt: skip
        st.button(t(N_("Leave out")), icon=":material/remove_circle:", type="tertiary", key=f"leave-{row}", on_click=safely(leave_out), args=(path, row))  # fmt: skip


def show_line(subject: Subject, row: RawRow) -> None:
    """The text of a line that is no row."""
    text = line_of(subject.path, row, subject.question.split)
    if text is not None:
        st.code(visible_lines(text[:LONGEST_LINE]), language=None, wrap_lines=True)


def show_editor(subject: Subject, raw: RawRow) -> None:
    """A field with the row as JSON. What is typed is kept when it is an object; else it stays, with the reason."""
    path, row = subject.path, raw.number
    key = f"{FIELD}{row}"
    before = typed_row(path, raw, subject.question.split)
    if key not in st.session_state:
        st.session_state[key] = edits_of(path).get(row) or before
    st.text_area(t(N_("Row {row} as JSON"), row=row), key=key, height=260)
    problem: Message | None = st.session_state.get(session.ROW_PROBLEM)
    if problem is not None:
        st.error(say(problem), icon=":material/error:")
    with st.container(horizontal=True):
        st.button(t(N_("Keep the change")), type="primary", icon=":material/check:", key=f"keep-{row}", on_click=safely(_keep), args=(path, row, before))  # fmt: skip
        st.button(t(N_("Cancel")), type="tertiary", key=f"cancel-edit-{row}", on_click=safely(_close), args=(row,))


def show_pending(subject: Subject) -> None:
    """What is changed so far, and the button that writes it."""
    edits = edits_of(subject.path)
    if not edits:
        return
    left_out = sum(text is None for text in edits.values())
    parts = [
        Message(words, {"count": count})
        for count, words in (
            (len(edits) - left_out, Plural("{count} row changed", "{count} rows changed")),
            (left_out, Plural("{count} row left out", "{count} rows left out")),
        )
        if count
    ]
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="pending_edits"):
        st.markdown(t(N_("{changes}. The file itself stays as it is."), changes=_listed(parts)))
        write = st.button(t(N_("Save as a new file")), type="primary", icon=":material/save:", key="write_edits")
        st.button(t(N_("Discard")), type="tertiary", icon=":material/undo:", key="discard_edits", on_click=safely(set_edits), args=(subject.path, {}))  # fmt: skip
    if write:
        _write(subject, edits)


def _listed(parts: list[Message]) -> Message:
    return parts[0] if len(parts) == 1 else Message(N_("{first}, {second}"), {"first": parts[0], "second": parts[1]})


def _write(subject: Subject, edits: dict[int, str | None]) -> None:
    """Write the new file and show it."""
    with reading_bar(subject.path.name, subject.size_bytes) as told:
        path = write_edited(
            subject.path,
            edits,
            installation().uploads,
            told,
            split=subject.question.split,
            name=Path(subject.question.dataset).name or None,
        )
    set_edits(subject.path, {})
    st.session_state.pop(session.EDITED_ROW, None)
    tell(t(N_("Saved as {file}."), file=path.name), ":material/check_circle:")
    open_data_set(name_of(path, installation().data_roots))
    st.rerun()


def _keep(path: Path, row: int, before: str) -> None:
    typed = st.session_state[f"{FIELD}{row}"]
    try:
        text = checked_row(typed, row)
    except DataError as error:
        st.session_state[session.ROW_PROBLEM] = error.message
        return
    _close(row)
    if typed.strip() != before.strip():
        set_edits(path, {**edits_of(path), row: text})


def _close(row: int) -> None:
    st.session_state.pop(session.EDITED_ROW, None)
    st.session_state.pop(session.ROW_PROBLEM, None)
    st.session_state.pop(f"{FIELD}{row}", None)
