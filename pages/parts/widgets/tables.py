"""Coloured tables: the config diff, an import, and the rank check. Colour never stands alone: a sign and a word go with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import streamlit as st

from lora_backend.config.check_report import DIFF_SIGNS, DIFF_WORDS
from lora_backend.config.diff import ABSENT, DiffRow
from lora_backend.config.findings import shorten
from lora_backend.config.in_short import in_short
from lora_backend.config.schema import KEYS, REQUIRED
from lora_backend.i18n import N_
from lora_backend.verification.records import has_other_scaling
from lora_backend.verification.shapes import block_of
from pages.parts.shell.language import language, t
from pages.parts.widgets.frames import frame, markdown_frame

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
    """One row a key of another tool's config, coloured by what became of it."""
    fills = {"translated": "changed", "not_supported": "wrong", "unknown": "missing", "taken": "ok"}
    _table(columns, cells, [FILLS[fills[outcome]] for outcome in outcomes])


def wrapping_table(columns: Sequence[str], cells: list[list[Any]], fills: Sequence[str]) -> None:
    """A table whose cells break into lines, so that none is cut off; `fills` names the colour of each row."""
    _table(columns, cells, [FILLS.get(fill, "") for fill in fills])


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


RANK_STATES = {
    "ok": N_("OK"),
    "mismatch": N_("wrong rank"),
    "a_against_b": N_("A and B differ"),
    "unreadable": N_("not readable"),
    "missing": N_("missing"),
    "not_targeted": N_("not targeted"),
    "no_magnitude": N_("no DoRA magnitude"),
    "wrong_magnitude": N_("DoRA magnitude of the wrong size"),
    "unexpected_magnitude": N_("DoRA magnitude not asked for"),
    "unasked": N_("not asked for"),
    "undetermined": N_("cannot be told"),
    "not_in_model": N_("not in the model"),
    "not_from_file": N_("not from the file"),
    "other_shape": N_("other shape"),
    "other_values": N_("other values"),
    "unfit_dtype": N_("invalid type"),
}


OTHER_SCALING = N_("other scaling")
UNKNOWN_STATE = N_("of another version")


def rank_table(records: Iterable[Mapping[str, Any]]) -> None:
    """One row a layer: expected rank, what PEFT's config says, what A and B are, what is known of its values, verdict."""
    records = list(records)
    columns = [
        (t(N_("Layer")), "name"),
        (t(N_("Block")), "block"),
        (t(N_("Module")), "module"),
        (t(N_("Config to check against")), "expected_r"),
        (t(N_("Adapter's config")), "config_r"),
        ("A", "a_r"),
        ("B", "b_r"),
    ]
    if any(map(has_other_scaling, records)):
        columns += [
            (t(N_("Expected alpha")), "expected_alpha"),
            (t(N_("Alpha")), "alpha"),
            (t(N_("Expected scaling")), "expected_scaling"),
        ]
    if any(record.get("scaling") is not None for record in records):
        columns.append((t(N_("Scaling")), "scaling"))
    if any(record.get("norm") is not None for record in records):
        columns += [
            (t(N_("Effective rank")), "effective_rank"),
            (t(N_("Needed rank")), "needed_rank"),
            (t(N_("Norm")), "norm"),
            (t(N_("Type")), "dtype"),
        ]
    cells = [[_state(record), *(_rounded(record.get(name)) for _, name in columns)] for record in records]
    for column in range(1, len(columns) + 1):
        if any(row[column] is None for row in cells):  # a column of numbers would show them as `None`
            for row in cells:
                row[column] = str(_shown(row[column]))
    fills = [FILLS[_fill(record)] for record in records]
    _frame([t(N_("State")), *(title for title, _ in columns)], cells, fills)


SIGNS = {"ok": "✓", "missing": "?", "changed": "~", "wrong": "✗"}
"""Of each fill, for colour never stands alone."""


def is_in_order(record: Mapping[str, Any]) -> bool:
    """Whether a layer is in all that is told of it what it should be."""
    return _fill(record) == "ok"


def _fill(record: Mapping[str, Any]) -> str:
    if record["state"] == "ok":
        return "changed" if has_other_scaling(record) else "ok"
    return {"undetermined": "missing", "not_targeted": "changed"}.get(record["state"], "wrong")


def _state(record: Mapping[str, Any]) -> str:
    fill, state = _fill(record), record["state"]
    word = OTHER_SCALING if state == "ok" and fill != "ok" else RANK_STATES.get(state, UNKNOWN_STATE)
    return f"{SIGNS[fill]} {t(word)}"


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def compare_table(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """The ranks of two adapters side by side, what differs first, then from block to block.

    A layer that only one of them has is told as missing in the other.
    """

    def place(name: str) -> tuple[bool, int, str]:
        block = block_of(name)
        return name in one and name in other and one[name] == other[name], -1 if block is None else block, name

    names = sorted({*one, *other}, key=place)
    cells, fills = [], []
    for name in names:
        if name not in one or name not in other:
            state, fill = t(N_("− missing here") if name not in one else N_("− missing in the other")), FILLS["missing"]
        elif one[name] == other[name]:
            state, fill = t(N_("= same rank")), ""
        else:
            state, fill = t(N_("~ other rank")), FILLS["changed"]
        cells.append([state, name, *(_rank(side[name]) if name in side else "–" for side in (one, other))])
        fills.append(fill)
    _frame([t(N_("State")), t(N_("Layer")), t(N_("This adapter")), t(N_("The other adapter"))], cells, fills)


def _rank(value: Any) -> str:
    return t(N_("unreadable")) if value is None else str(value)


def _filled(frame: Any, fills: list[str]) -> Any:
    style = frame.style.apply(lambda row: [f"background-color: {fills[row.name]}"] * len(row), axis=1)
    return style.format(_shown)


def _shown(value: Any) -> Any:
    """A cell as it is read: a number without zeros that say nothing, a dash where there is none."""
    if value is None or value != value:
        return "–"
    return f"{value:g}" if isinstance(value, float) else value


def _table(columns: Sequence[str], cells: list[list[Any]], fills: list[str]) -> None:
    """A table that shows every value whole, for few rows; sentences have room."""
    style = _filled(markdown_frame(columns, cells), fills)
    for column, width in (
        (t(N_("Status")), "5.5rem"),
        (t(OUTCOME), "7rem"),
        (t(WHAT_IT_DOES), "10rem"),
        (t(WHY), "14rem"),
    ):
        if column in columns:
            style = style.set_properties(subset=[column], **{"min-width": width})
    st.table(style.hide(axis="index"))


def _frame(columns: Sequence[str], cells: list[list[Any]], fills: list[str]) -> None:
    """A table that scrolls, for many rows."""
    rows = [dict(zip(columns, row, strict=True)) for row in cells]
    st.dataframe(_filled(frame(rows), fills), hide_index=True, height="content" if len(cells) <= SHORT else 560)
