"""All keys of a draft as a form. The draft's text is the truth: a field writes its one key into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import Draft
from lora_backend.config.schema import GROUPS, KEYS, REQUIRED, Key
from lora_backend.i18n import N_, Plural
from lora_backend.preflight.resolve import ResolvedConfig
from pages.parts.draft import session
from pages.parts.draft.facts import known_facts, show_known_facts
from pages.parts.draft.fields import field
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import Markdown
from pages.parts.shell.services import resolved

WIDE = ("model_name",)
"""Keys whose values have no room beside another field: a folder or an id, and what its weights take."""


def config_form(draft: Draft, config: ResolvedConfig) -> None:
    """A field for each key, grouped; while the text cannot be read, the last text that could be, to look at."""
    document = config.document
    values, disabled = document.values, not document.is_readable
    if disabled:
        values = last_good_values(draft)
        config = resolved(values)
        st.warning(
            t(
                N_("The form shows the last text that could be read. {reason}"),
                reason=say(document.problems[0].message),
            ),
            icon=":material/edit_off:",
        )
    known = known_facts(config)
    show_known_facts(known)
    search = st.text_input(
        t(N_("Search the keys")),
        key=session.FORM_SEARCH,
        icon=":material/search:",
        label_visibility="collapsed",
        placeholder=t(N_("Search the keys by name or help")),
    )
    found = [key for key in KEYS.values() if _matches(key, search or "")]
    if not found:
        st.info(t(N_("No key matches.")), icon=":material/search_off:")

    def fields(keys: Sequence[Key]) -> None:
        wide = [key for key in keys if key.name in WIDE]
        narrow = [key for key in keys if key.name not in WIDE]
        pairs = [narrow[first : first + 2] for first in range(0, len(narrow), 2)]
        for row in [*([key] for key in wide), *pairs]:
            for column, key in zip(st.columns(len(row) if row[0] in wide else 2), row, strict=False):
                with column:
                    value = values.get(key.name, None if key.default is REQUIRED else key.default)
                    field(draft, key, value, known, is_set=key.name in values, disabled=disabled)

    for group, title in GROUPS.items():
        keys = [key for key in found if key.group == group]
        if not keys:
            continue
        st.markdown(f"**{t(title)}**")
        common = [key for key in keys if key.common or search]
        fields(common)
        more = [key for key in keys if key not in common]
        if more:
            with st.expander(_more(more, values), key=f"more-{draft.id}-{group}"):
                fields(more)


def last_good_values(draft: Draft) -> dict[str, Any]:
    """The values of the newest text of the draft that can be read; none where there is no such text."""
    for text in draft.history.backwards():
        document = parse_config(text)
        if document.is_readable:
            return document.values
    return {}


def _more(keys: Sequence[Key], values: Mapping[str, Any]) -> Markdown:
    num_set = sum(key.name in values for key in keys)
    if num_set:
        return t(
            Plural("{count} more key, {set} of them set", "{count} more keys, {set} of them set"),
            count=len(keys),
            set=num_set,
        )
    return t(Plural("{count} more key", "{count} more keys"), count=len(keys))


def _matches(key: Key, search: str) -> bool:
    text = f"{key.name} {key.help} {t(key.help)}".lower()
    return all(word in text for word in search.lower().split())
