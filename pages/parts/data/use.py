"""Train on it: a new draft with this data set, or one that is there with its `dataset` set."""

from __future__ import annotations

import streamlit as st

from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.drafts import Draft, list_drafts, new_draft, open_draft
from lora_backend.config.patch import DELETE, Patch
from lora_backend.errors import ConfigError
from lora_backend.escaping import visible
from lora_backend.formats import when
from lora_backend.i18n import N_
from pages.parts.data.question import NUMBERS, WORDS, Question
from pages.parts.shell import addresses
from pages.parts.shell.language import t
from pages.parts.shell.navigation import CONFIG
from pages.parts.shell.services import installation

MOST_DRAFTS = 20


def use_in_config(question: Question, *, has_changes: bool) -> None:
    """The buttons; each opens the draft. `has_changes`: of rows that are not written yet, which nobody would train on."""
    if has_changes:
        help_text = t(N_("Save the changed rows as a new file first."))
        st.button(t(N_("Use in config")), icon=":material/tune:", key="use_later", disabled=True, help=help_text)
        return
    asked = question.params.get(addresses.DRAFT)
    if asked:
        if st.button(t(N_("Use in the draft")), type="primary", icon=":material/tune:", key="use_in_draft"):
            _set_in(asked, question)
        return
    with st.popover(t(N_("Use in config")), icon=":material/tune:", type="primary"):
        if st.button(t(N_("New draft")), icon=":material/add:", key="use_in_new"):
            draft = new_draft(installation().drafts, with_values("", changes_of(question)))
            st.switch_page(CONFIG, query_params={addresses.DRAFT: draft.id})
        drafts = list_drafts(installation().drafts)[:MOST_DRAFTS]
        if not drafts:
            return
        names = {draft.id: _named(draft) for draft in drafts}
        chosen = st.selectbox(
            t(N_("Or set `dataset` in a draft")),
            list(names),
            index=None,
            format_func=lambda key: visible(names[key]),
            key="use_draft",
        )
        if st.button(t(N_("Set it")), icon=":material/check:", key="use_in_chosen", disabled=chosen is None):
            _set_in(str(chosen), question)


def changes_of(question: Question) -> Patch:
    """What the draft is to say: the data set, and how the page was told to read it."""
    told = {name: question.value(name) for name in (*NUMBERS, *WORDS, "data_columns") if name in question.params}
    model = {"model_name": question.model} if question.model else {}
    return Patch({**model, "dataset": question.dataset, **told})


def _set_in(draft_id: str, question: Question) -> None:
    draft = open_draft(installation().drafts, draft_id)
    text = draft.text()
    values, changes = parse_config(text).values, changes_of(question)
    if values.get("model_name") and addresses.MODEL not in question.params:
        changes = Patch({key: value for key, value in changes.items() if key != "model_name"})
    if values.get("datasets"):  # one or the other
        changes |= {"datasets": DELETE}
    draft.save(with_values(text, changes))
    st.switch_page(CONFIG, query_params={addresses.DRAFT: draft.id})


def _named(draft: Draft) -> str:
    try:
        values = parse_config(draft.text()).values
    except ConfigError:  # deleted since the list was made
        return draft.id
    model = str(values.get("model_name") or "–").rstrip("/").rpartition("/")[2]
    return f"{model} · {draft.id} · {when(draft.changed_at)}"
