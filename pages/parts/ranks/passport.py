"""Provenance: whether adapter, config, base model and data are those that it was trained with, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from lora_backend.config.short_values import in_short
from lora_backend.i18n import N_, Message
from lora_backend.verification.passport import Part
from lora_backend.views.verify_view import PARTS, WORDS, ProvenanceRow, provenance_rows
from pages.parts.shell.language import language, say, t
from pages.parts.shell.markdown import Markdown, bold, code, joined
from pages.parts.widgets.tables import wrapping_table

LONG = 120
"""Characters of a value that are shown."""
SIGNS = {"same": "✓", "partly": "~", "different": "✗", "unknown": "?"}
FILLS = {"same": "ok", "partly": "changed", "different": "wrong", "unknown": ""}


def show_passport(parts: Sequence[Part]) -> None:
    """A row for each part, what differs first; below it what there is to say of those that are not the same."""
    rows = sorted(provenance_rows(parts), key=lambda row: row.verdict != "different")
    if rows:
        columns = [t(N_("Status")), t(N_("What")), t(N_("Adapter was trained with")), t(N_("Here now"))]
        wrapping_table(columns, [_cells(row) for row in rows], [FILLS[row.verdict] for row in rows])
        st.caption(t(N_("Files are told apart by the first digits of their sha256.")))
    said = [
        joined(" · ", (bold(t(PARTS[part.name])), say(part.detail)))
        for part in parts
        if part.verdict != "same" and not part.differing
    ]
    if said:
        st.caption(joined("  \n", said))


def _cells(row: ProvenanceRow) -> list[Markdown]:
    name = say(row.name) if isinstance(row.name, Message) else code(row.name)
    is_key = not isinstance(row.name, Message)
    return [_state(row), name, *(_side(row, side, is_key=is_key) for side in (row.recorded, row.found))]


def _side(row: ProvenanceRow, side: Any, *, is_key: bool) -> Markdown:
    if is_key:
        return code(in_short(str(row.name), side, LONG, language()))
    return code(side) if side else Markdown("–")


def _state(row: ProvenanceRow) -> Markdown:
    return joined("\u00a0", (SIGNS[row.verdict], t(WORDS[row.verdict])))  # a sign stays beside its word
