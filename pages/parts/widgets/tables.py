"""Coloured tables: the config diff, an import, and whatever a view has. Colour never stands alone: a sign and a word go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from lora_backend.config.check_report import DIFF_SIGNS, DIFF_WORDS
from lora_backend.config.diff import ABSENT, DiffRow
from lora_backend.config.findings import shorten
from lora_backend.config.schema import KEYS, REQUIRED
from lora_backend.config.short_values import in_short
from lora_backend.i18n import N_, Message
from lora_backend.views.table import Table, cell_text
from pages.parts.shell.language import language, say, say_plain, t
from pages.parts.widgets.frames import cell, frame, markdown_frame

# Whole-row fills that read well on a light and on a dark page.
FILLS = {
    "changed": "rgba(214, 158, 46, .20)",
    "added": "rgba(56, 161, 105, .22)",
    "missing": "rgba(113, 128, 150, .18)",
    "unknown": "rgba(229, 62, 62, .22)",
    "ok": "rgba(56, 161, 105, .16)",
    "wrong": "rgba(229, 62, 62, .26)",
}
LONG = 400
"""Characters of a value that a table shows."""
SHORT = 14
"""Rows up to which a table is shown whole."""


WHAT_IT_DOES, OUTCOME, WHY = N_("What it does"), N_("Result"), N_("Why")
Effects = Mapping[str, str] | None
"""Key → what it does, where that was asked for."""


def diff_table(rows: Sequence[DiffRow], base_name: str, effects: Effects = None) -> None:
    """One row a key: base, value, and what of it differs."""
    columns: list[str] = [t(N_("Status")), t(N_("Key")), base_name, t(N_("This config"))]
    cells = [[_diff_state(row), row.key, _side(row, row.base), _side(row, row.value)] for row in rows]
    _with_effects(columns, cells, [row.top_key for row in rows], effects)
    _table(columns, cells, [FILLS.get(row.status, "") for row in rows])


def unified_table(rows: Sequence[DiffRow], base_name: str, effects: Effects = None) -> None:
    """What the base has and what the config has, one below the other: for narrow screens and long values."""
    columns: list[str] = [t(N_("Status")), t(N_("Key")), t(N_("− {base}, + this config"), base=base_name)]
    cells, fills, keys = [], [], []
    for row in rows:
        sides = [("−", row.base, "missing"), ("+", row.value, "added")]
        if row.status == "equal":
            sides = [("=", row.value, "")]
        for sign, side, fill in sides:
            if side is not ABSENT:
                cells.append([_diff_state(row), row.key, f"{sign} {in_short(row.key, side, LONG, language())}"])
                fills.append(FILLS.get("unknown" if row.status == "unknown" else fill, ""))
                keys.append(row.top_key)
    _with_effects(columns, cells, keys, effects)
    _table(columns, cells, fills)


def outcome_table(columns: Sequence[str], cells: list[list[str]], outcomes: Sequence[str]) -> None:
    """One row a key of another tool's config; coloured is what does not come over as it stands."""
    fills = {"translated": "changed", "not_supported": "wrong", "unknown": "missing"}
    _table(columns, cells, [FILLS.get(fills.get(outcome, ""), "") for outcome in outcomes])


def wrapping_table(
    columns: Sequence[str], cells: list[list[Any]], fills: Sequence[str], *, figures: Sequence[str] = ()
) -> None:
    """A table whose cells break into lines, so that none is cut off; `fills` names the colour of each row.

    `figures`: columns of short figures. On a phone these break once at most and the others have room as well; the table scrolls.
    """
    _table(columns, cells, [FILLS.get(fill, "") for fill in fills], figures)


def whole(value: Any) -> str:
    """A value as a table would show it, however long it is."""
    return "–" if value is ABSENT else shorten(value, 10**6)


def _diff_state(row: DiffRow) -> str:
    return f"{DIFF_SIGNS[row.status]}\u00a0{t(DIFF_WORDS[row.status])}"  # a sign stays beside its word


def _side(row: DiffRow, value: Any) -> str:
    """A value; where a side lacks the key, the default that it means."""
    default = KEYS[row.key].default if row.key in KEYS else REQUIRED
    if value is ABSENT and default is not REQUIRED:
        return t(N_("not set")) if default is None else t(N_("not set: {value}"), value=shorten(default, LONG))
    return "–" if value is ABSENT or value is None else in_short(row.key, value, LONG, language())


def _with_effects(columns: list[str], cells: list[list[str]], keys: Sequence[str], effects: Effects) -> None:
    """A last column for what each key does; a key with several rows has it in the first."""
    if effects is None:
        return
    columns.append(t(WHAT_IT_DOES))
    said: set[str] = set()
    for row, key in zip(cells, keys, strict=True):
        row.append("" if key in said else effects.get(key, "–"))
        said.add(key)


def scrolling_table(table: Table) -> None:
    """A table of many rows, which scrolls. A column of numbers would show a missing one as `None`, so it is text then."""
    cells = [[say_plain(cell) if isinstance(cell, Message) else cell for cell in row] for row in table.rows]
    heads, figures = list(map(say, table.heads)), []
    for column, head in enumerate(heads):
        if any(row[column] is None for row in cells):
            if any(isinstance(row[column], int | float) for row in cells):
                figures.append(head)
            for row in cells:
                row[column] = str(_shown(row[column]))
    _frame(heads, cells, [FILLS.get(fill, "") for fill in table.fills], figures)


def _filled(frame: Any, fills: list[str]) -> Any:
    style = frame.style.apply(lambda row: [f"background-color: {fills[row.name]}"] * len(row), axis=1)
    return style.format(_shown)


def _shown(value: Any) -> Any:
    """A cell as it is read: a number without zeros that say nothing, a dash where there is none."""
    return cell_text(value) if value is None or isinstance(value, float) else value


def _table(columns: Sequence[str], cells: list[list[Any]], fills: list[str], figures: Sequence[str] = ()) -> None:
    """A table that shows every value whole, for few rows; sentences have room."""
    style = _filled(markdown_frame(columns, cells), fills)
    for column, width in (
        *((column, "5.5rem" if column in figures else "8rem") for column in (columns if figures else ())),
        (t(N_("Status")), "5.5rem"),
        (t(OUTCOME), "7rem"),
        (t(WHAT_IT_DOES), "10rem"),
        (t(WHY), "14rem"),
    ):
        if column in columns:
            style = style.set_properties(subset=[column], **{"min-width": width})
    st.table(style.hide(axis="index"))


def _frame(columns: Sequence[str], cells: list[list[Any]], fills: list[str], figures: Sequence[str] = ()) -> None:
    """A table that scrolls, for many rows. `figures`: columns of text that stand where numbers do."""
    rows = [dict(zip(columns, row, strict=True)) for row in cells]
    st.dataframe(
        _filled(frame(rows), fills),
        hide_index=True,
        height="content" if len(cells) <= SHORT else 560,
        placeholder="–",
        column_config={cell(name): st.column_config.TextColumn(alignment="right") for name in figures},
    )
