"""A rank report on the screen: verdict, what each entry of the config matched, table, heat map, export."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from lora_backend.escaping import csv_cell, markdown_cell
from lora_backend.i18n import N_
from lora_backend.verification.codes import explained
from lora_backend.verification.judgement import WRONG_VALUE
from lora_backend.verification.layer_health import LayerHealth
from lora_backend.verification.rank_documents import CoverageEntry, RankReport
from lora_backend.verification.verdicts import deciding, tone, verdict
from lora_backend.views.rank_view import LayerRow, layer_rows, rank_table
from pages.parts.ranks.base import show_comparison
from pages.parts.ranks.maps import show_maps
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import code, escape, joined
from pages.parts.widgets.tables import scrolling_table
from pages.parts.widgets.tones import BOXES

ICONS = {"good": "verified", "doubt": "help", "bad": "error"}
"""Beside the sentence of a report, by its tone."""


Health = Mapping[str, LayerHealth]
"""Layer → what its values say."""
SIGN = ":orange[:material/warning:] "


def show_report(
    report: RankReport, key: str, ask_health: Callable[[], Health] | None = None, *, is_answered: bool = False
) -> Health:
    """Everything of a report; returns what `ask_health`, which may draw a button below the verdict, answers.

    `key` tells several reports on one page apart; `is_answered`: its sentence stands above already.
    """
    if is_answered:
        _warnings(deciding(report))
    else:
        show_verdict(report)
    if report.subfolders:
        st.write(t(N_("These folders inside it have one: {names}"), names=", ".join(report.subfolders)))
    show_comparison(report, key)
    _coverage(report.coverage)
    health = ask_health() if ask_health and report.layers else {}
    if report.layers:
        _layers(report, key, health)
    return health


def show_verdict(report: RankReport) -> None:
    """The sentence in its colour, then what there is to be warned of; of a run's report, what decides it."""
    report = deciding(report)
    colour = tone(report)
    show, icon = (BOXES[colour], ICONS[colour]) if report.is_consistent is not None else (st.info, "help")
    show(say(verdict(report)), icon=f":material/{icon}:")
    _warnings(report)


def _warnings(report: RankReport) -> None:
    if report.warnings:
        lines = (joined(" ", (say(explained(warning)), code(warning))) for warning in report.warnings)
        st.markdown(SIGN + joined(f"  \n{SIGN}", lines))


def _coverage(entries: Sequence[CoverageEntry]) -> None:
    lines = []
    for entry in entries:
        if not entry.warning:
            continue
        values = {"key": entry.key, "entry": code(entry.entry)}
        if entry.warning == WRONG_VALUE:
            lines.append(t(N_("`{key}`: {entry} cannot be used."), **values))
            continue
        line = t(N_("`{key}`: {entry} matches no layer."), **values)
        near = [t(N_("Did you mean {near}?"), near=code(entry.near))] if entry.near else []
        lines.append(joined(" ", (line, *near)))
    if lines:
        st.markdown("- " + joined("\n- ", lines))


def _layers(report: RankReport, key: str, health: Health) -> None:
    rows = layer_rows(report, health)
    show_maps(rows, key)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        only_problems = st.toggle(t(N_("Problems only")), key=f"problems-{key}")
        with st.container(horizontal=True, width="content"):
            _exports(report, rows, key)
    shown = [row for row in rows if not row.is_in_order] if only_problems else rows
    if not shown:
        st.info(t(N_("No layer has a problem.")), icon=":material/check_circle:")
    else:
        scrolling_table(rank_table(shown))


def _exports(report: RankReport, rows: Sequence[LayerRow], key: str) -> None:
    columns = [
        "name", "block", "module", "expected_r", "config_r", "layer_r", "a_r", "b_r", "expected_alpha", "alpha", "expected_scaling", "scaling", "effective_rank", "norm", "dtype", "state",
    ]  # fmt: skip
    records = [row.to_dict() for row in rows]
    files = {
        "csv": _as_csv(columns, records),
        "json": json.dumps({**report.to_dict(), "layers": records}, ensure_ascii=False, indent=1),
        "md": _as_markdown(columns, records),
    }
    for ending, text in files.items():
        st.download_button(
            escape(ending.upper()),
            text,
            file_name=f"ranks.{ending}",
            on_click="ignore",
            key=f"export-{ending}-{key}",
            icon=":material/download:",
            type="tertiary",
        )


def _as_csv(columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: csv_cell(record[name]) for name in columns} for record in records)
    return out.getvalue()


def _as_markdown(columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> str:
    rows = [columns, ["---"] * len(columns), *([markdown_cell(record[name]) for name in columns] for record in records)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
