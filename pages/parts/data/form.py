"""The form in which the rows are written, in words; and the two keys that say otherwise. The address keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from lora_backend.data.forms import FORM_NAMES, FORMS, FormName, FoundForm
from lora_backend.escaping import visible
from lora_backend.i18n import N_, Message
from lora_backend.views.data_view import FORMS as FORM_WORDS
from pages.parts.data.question import as_words
from pages.parts.data.subject import Subject
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say_plain, sentences, t, t_plain
from pages.parts.shell.markdown import Markdown, code, joined

AUTO = "auto"
NOT_GIVEN = "–"
FORMAT, COLUMN = "data-format", "data-column-"


def show_form(subject: Subject, found: FoundForm | None, columns: Sequence[str]) -> None:
    """What was found, and a way to overrule it. `columns`: those that the first rows have."""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        if found is not None:
            st.markdown(_in_words(found), width="content")
        with st.popover(t(N_("Change the format")), icon=":material/swap_horiz:", type="tertiary"):
            _format_field(subject)
            _column_fields(subject, found, columns)
            st.caption(t(N_("In a config, `data_format` and `data_columns` do the same; *Use in config* sets them.")))


def _in_words(found: FoundForm) -> Markdown:
    how = N_("Form: {form}, as you chose.") if found.is_said else N_("Form: {form}, detected from the rows.")
    said = [t(how, form=Message(FORM_WORDS.get(found.form, found.form)))]
    if found.renamed:
        pairs = [joined(" ← ", (code(part), code(column))) for part, column in found.renamed.items()]
        said.append(t(N_("Columns: {columns}."), columns=joined(", ", pairs)))
    return sentences(said)


def _format_field(subject: Subject) -> None:
    value = str(subject.question.value("data_format") or AUTO)
    options: list[str] = [AUTO, *FORM_NAMES]
    # A popover makes its fields when it is opened, and then asks for what they began with: so each value has its own.
    key = f"{FORMAT}-{value}"
    st.selectbox(
        t(N_("Form of the rows")),
        options,
        index=options.index(value) if value in options else 0,
        format_func=lambda name: (
            t_plain(N_("detected automatically")) if name == AUTO else say_plain(Message(FORM_WORDS[name]))
        ),
        key=key,
        on_change=safely(_write_format),
        args=(key,),
    )


def _column_fields(subject: Subject, found: FoundForm | None, columns: Sequence[str]) -> None:
    """One field for each part of the form: the column that it is read from."""
    asked = subject.question.value("data_format")
    name: FormName | None = asked if asked in FORM_NAMES else None if found is None else found.form
    if name is None or not columns:
        return
    mapped: Mapping[str, str] = subject.question.value("data_columns") or {}
    form = FORMS[name]
    for part in (*form.needed, *form.optional):
        by_itself = NOT_GIVEN if found is None else found.columns.get(part, NOT_GIVEN)
        own = by_itself if by_itself in columns else NOT_GIVEN
        value = mapped.get(part, own)
        options = list(dict.fromkeys([NOT_GIVEN, *columns, value]))
        key = f"{COLUMN}{part}-{value}"
        st.selectbox(
            t(N_("`{part}` is read from"), part=part),
            options,
            index=options.index(value),
            format_func=visible,
            key=key,
            on_change=safely(_write_column),
            args=(key, part, dict(mapped), own),
        )


def _write_format(key: str) -> None:
    chosen = st.session_state[key]
    st.query_params.pop("data_columns", None)
    if chosen == AUTO:
        st.query_params.pop("data_format", None)
    else:
        st.query_params["data_format"] = chosen


def _write_column(key: str, part: str, mapped: dict[str, str], own: str) -> None:
    chosen = st.session_state[key]
    others = {name: column for name, column in mapped.items() if name != part}
    if chosen not in (NOT_GIVEN, own):
        others[part] = chosen
    if others:
        st.query_params["data_columns"] = as_words(others)
    else:
        st.query_params.pop("data_columns", None)
