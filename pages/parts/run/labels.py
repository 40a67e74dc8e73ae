"""Tags, a note and a pin of one run, edited on its page."""

from __future__ import annotations

from typing import Any

import streamlit as st

from lora_backend.errors import RunError
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.runs.record.run_labels import LONGEST_NOTE, read_labels, write_labels
from lora_backend.runs.record.run_store import RunStore
from pages.parts.shell.failing import safely, tell
from pages.parts.shell.language import explain, t
from pages.parts.shell.markdown import joined


def run_labels(run: RunStore) -> None:
    """Kept with every change, in the run's own folder."""
    labels = read_labels(run.path)
    title = joined(": ", (t(N_("Tags and note")), *([", ".join(labels.tags)] if labels.tags else [])))
    with st.popover(title, icon=":material/sell:"):
        st.session_state[f"tags-shown-{run.id}"] = st.multiselect(
            t(N_("Tags")),
            list(labels.tags),
            list(labels.tags),
            accept_new_options=True,
            format_func=visible,
            key=f"tags-{run.id}",
            placeholder=t(N_("type a tag and press Enter")),
            on_change=safely(lambda: _write_tags(run)),
        )
        st.session_state[f"note-shown-{run.id}"] = st.text_area(
            t(N_("Note")),
            labels.note,
            max_chars=LONGEST_NOTE,
            key=f"note-{run.id}",
            height=160,
            on_change=safely(lambda: _write_note(run)),
        )
        st.toggle(
            t(N_("Pinned to the top of the table")),
            labels.pinned,
            key=f"pinned-{run.id}",
            on_change=safely(lambda: _write(run, pinned=st.session_state[f"pinned-{run.id}"])),
        )


def _write_tags(run: RunStore) -> None:
    """What this tab adds to the tags that it showed, and what it takes away; another tab may have written some since."""
    shown = [tag.strip() for tag in st.session_state[f"tags-shown-{run.id}"]]  # as they are kept
    chosen = [tag.strip() for tag in st.session_state[f"tags-{run.id}"]]
    added, removed = [tag for tag in chosen if tag not in shown], [tag for tag in shown if tag not in chosen]
    if not _write(run, added=added, removed=removed):
        st.session_state[f"tags-{run.id}"] = shown  # no tag is shown that is not kept


def _write_note(run: RunStore) -> None:
    """What another tab wrote since this one showed the note is kept above it."""
    note, theirs = st.session_state[f"note-{run.id}"], read_labels(run.path).note
    if theirs not in (st.session_state[f"note-shown-{run.id}"], note, ""):
        note = f"{theirs}\n{note}"
        st.session_state[f"note-{run.id}"] = note
        tell(t(N_("Another tab changed the note meanwhile. Both are kept.")))
    _write(run, note=note)


def _write(run: RunStore, **labels: Any) -> bool:
    """False, and it is said why, where they cannot be kept."""
    try:
        run.read_record()  # says that it is gone, where another tab deleted it
        write_labels(run.path, **labels)
    except (RunError, OSError) as error:
        tell(explain(error))
        return False
    return True
