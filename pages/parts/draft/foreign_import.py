"""The config of another tool: recognised by its content, every key of it with what became of it, opened as a draft."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.config.check import CheckResult
from lora_backend.config.config_text import ConfigDocument, parse_config
from lora_backend.config.diff import ABSENT
from lora_backend.config.drafts import Draft
from lora_backend.config.foreign.converting import values_to_compare
from lora_backend.config.foreign.import_file import import_text
from lora_backend.config.foreign.notice import FOREIGN
from lora_backend.config.foreign.outcomes import ImportResult, ImportRow
from lora_backend.config.foreign.tools import is_foreign
from lora_backend.config.short_values import in_short
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_
from pages.parts.draft.edit import set_values
from pages.parts.shell.language import explain, language, say, t
from pages.parts.shell.markdown import bold, joined
from pages.parts.widgets.tables import OUTCOME, WHY, outcome_table

OUTCOMES = {
    "taken": ("=", N_("kept")),
    "translated": ("→", N_("translated")),
    "not_supported": ("✗", N_("not supported")),
    "not_needed": ("·", N_("not needed here")),
    "unknown": ("?", N_("unknown")),
}
MAX_NAME_BYTES = 120


def show_import(result: ImportResult) -> None:
    """What became of every key, in words and numbers."""
    rows = [*result.rows, *result.assumed]
    counts = {outcome: sum(row.shown_as == outcome for row in rows) for outcome in OUTCOMES}
    st.markdown(
        joined(
            " · ",
            (
                bold(result.title),
                *(
                    f"{OUTCOMES[outcome][0]} {count} {t(OUTCOMES[outcome][1])}"
                    for outcome, count in counts.items()
                    if count
                ),
            ),
        )
    )
    _table(rows)


def keep_source(draft: Draft, name: str, text: str) -> None:
    """Keep the file of the other tool with the draft that was made of it."""
    draft.keep_beside("imported", safe_name(name), text)


def settle(draft: Draft, document: ConfigDocument, result: CheckResult, changes: Mapping[str, Any]) -> None:
    """Apply the fix of a finding; a conversion keeps the text that it was made of, so that its table stays at hand."""
    if any(finding.code == FOREIGN and finding.fix == changes for finding in result.findings):
        keep_source(draft, "config.yaml", document.text)
    set_values(draft, changes)


def show_kept_import(draft: Draft) -> None:
    """The table again, in a draft that came from another tool's file."""
    kept = draft.imported()
    if kept is None:
        return
    name, text = kept
    with st.expander(t(N_("Imported from {file}: how each key was handled"), file=name), icon=":material/input:"):
        try:
            show_import(import_text(text, name))
        except ConfigError as error:
            st.warning(explain(error))


def safe_name(name: str) -> str:
    """A file's name that any file system takes, its ending kept."""
    path = Path(name)
    stem = re.sub(r"[^\w-]+", "_", path.stem).encode("utf-8", "ignore")[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    stem = stem.strip("_") or "config"
    return stem + re.sub(r"[^.\w]", "", path.suffix)[:8]


def values_of(text: str, name: str) -> dict[str, object]:
    """The values of a config of ours or of another tool. Raises `ConfigError` where it cannot be read."""
    ending = Path(name).suffix.lower()
    document = parse_config(text, "json" if ending == ".json" else "toml" if ending == ".toml" else "yaml")
    if not document.is_readable:
        raise ConfigError(N_("{file} cannot be read: {reason}"), file=name, reason=document.problems[0].message)
    return import_text(text, name).values if is_foreign(document) else values_to_compare(document)


def _table(rows: Iterable[ImportRow]) -> None:
    cells, kinds = [], []
    for row in rows:
        sign, word = OUTCOMES[row.shown_as]
        here = (
            "–"
            if row.target_key is None
            else f"{row.target_key}: {in_short(row.target_key, row.target_value, language=language())}"
        )
        value = "–" if row.value is ABSENT else in_short(row.key, row.value, language=language())
        cells.append([str(row.line or "–"), f"{row.key}: {value}", f"{sign} {t(word)}", here, say(row.message)])
        kinds.append(row.shown_as)
    headings = [t(N_("Line")), t(N_("In the file")), t(OUTCOME), t(N_("Here")), t(WHY)]
    outcome_table(headings, cells, kinds)
