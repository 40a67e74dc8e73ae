"""The coloured diff of a draft against a base: what differs, what each difference does, to copy and to share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from lora_backend.config.check_report import DIFF_SIGNS, DIFF_WORDS
from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.copying import as_command, diff_markdown
from lora_backend.config.diff import ABSENT, DiffRow, Folded, diff_paths, fold, is_difference
from lora_backend.config.drafts import Draft
from lora_backend.config.foreign.converting import values_to_compare
from lora_backend.config.schema import KEYS, default_config
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_, Plural
from pages.parts.draft import session
from pages.parts.draft.diff.bases import Base, choose_base
from pages.parts.draft.diff.consequences import asked_consequences
from pages.parts.shell.language import language, say, t
from pages.parts.shell.markdown import Markdown, escape, joined
from pages.parts.widgets.tables import LONG, diff_table, unified_table, whole

FILTERS = {"differences": N_("Differences"), "all": N_("All keys")}
LAYOUTS = {"side": N_("Side by side"), "unified": N_("Unified")}


def show_differences(draft: Draft, document: ConfigDocument) -> None:
    """Base, filter and layout, the table, and what can be done with it; of another tool's file what it means here."""
    base = choose_base(draft)
    document = replace(document, values=values_to_compare(document))
    rows = diff_paths(document.values, base.values, KEYS)
    given = [row for row in rows if is_difference(row, default_config())]
    with st.container(horizontal=True):
        shown = _choice(t(N_("Rows")), FILTERS, session.DIFF_FILTER)
        layout = _choice(t(N_("Layout")), LAYOUTS, session.DIFF_LAYOUT)
    _remarks(base)
    if shown == "differences" and not given:
        st.info(
            t(N_("Nothing differs from the defaults.")) if base.id == "defaults" else t(N_("Nothing differs.")),
            icon=":material/equal:",
        )
        return
    chosen = given if shown == "differences" else rows
    folded = fold(chosen, document.values, base.values)
    counts = {status: sum(one.row.status == status for one in folded) for status in DIFF_WORDS}
    st.caption(
        joined(
            " · ",
            (f"{DIFF_SIGNS[status]} {count} {t(DIFF_WORDS[status])}" for status, count in counts.items() if count),
        )
    )
    keys = list(dict.fromkeys(row.top_key for row in given if row.top_key in KEYS))
    effects = asked_consequences(draft, document, base, keys)
    table = diff_table if layout == "side" else unified_table
    table([one.row for one in folded], base.name, effects)
    for one in folded:
        _inside(one, table, base)
    _long_values([one.row for one in folded if not one.inside])
    _take_away(chosen, base, document.values)


def _inside(one: Folded, table: Callable[[Sequence[DiffRow], str], None], base: Base) -> None:
    """The rows that a folded one stands for, for whoever opens them."""
    if not one.inside:
        return
    label = t(N_("{key}: all {count} rows"), key=one.row.key, count=len(one.inside))
    with st.expander(label, icon=":material/unfold_more:", key=f"inside-{one.row.key}", on_change="rerun") as opened:
        if opened.open:
            table(one.inside, base.name)


def _choice(label: Markdown, words: Mapping[str, str], key: str) -> str:
    options = list(words)
    chosen = st.segmented_control(
        label,
        options,
        format_func=lambda word: t(words[word]),
        default=options[0],
        required=True,
        key=key,
        label_visibility="collapsed",
    )
    return str(chosen)


def _remarks(base: Base) -> None:
    """What a script's source says that its values do not: `type=bool`, defaults that cannot be told."""
    for remark in base.remarks:
        st.warning(
            joined(" · ", (t(N_("Line {line} of the script"), line=remark.line), say(remark.message))),
            icon=":material/code:",
        )


def _long_values(rows: Sequence[DiffRow]) -> None:
    long = [row for row in rows if max(len(whole(row.base)), len(whole(row.value))) > LONG]
    if not long:
        return
    with st.expander(
        t(Plural("{count} long value, whole", "{count} long values, whole"), count=len(long)),
        icon=":material/unfold_more:",
    ):
        for row in long:
            st.caption(escape(row.key))
            st.code(
                visible_lines(
                    "\n".join(
                        f"{sign} {whole(side)}"
                        for sign, side in (("-", row.base), ("+", row.value))
                        if side is not ABSENT
                    )
                ),
                language="diff",
                wrap_lines=True,
            )


def _take_away(rows: Sequence[DiffRow], base: Base, values: Mapping[str, Any]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover(t(N_("Copy the diff")), icon=":material/content_copy:"):
            st.caption("Markdown")
            st.code(visible_lines(diff_markdown(rows, base.name, language())), language="markdown", height=200)
            if base.config is not None:
                st.caption(t(N_("Command from that run's config")))
                st.code(visible_lines(as_command(values, base.config, base.values)), language="bash", height=160)
            st.caption(t(N_("The base as YAML")))
            st.code(visible_lines(dump_yaml(base.values)), language="yaml", height=160)
        if base.can_be_shared:
            st.caption(t(N_("This page's address shows the same diff to anyone with access.")))
        else:
            st.caption(t(N_("The file is kept with this draft; the address works while the draft is there.")))
