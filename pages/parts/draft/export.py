"""A draft written for another tool, with what that tool cannot say."""

from __future__ import annotations

import streamlit as st

from lora_backend.config.foreign.exporting import EXPORT_TOOLS, export_config
from lora_backend.config.foreign.import_report import ALL_WRITTEN, NOT_CARRIED, TO_CHECK
from lora_backend.config.short_values import in_short
from lora_backend.data.forms import FORM_NAMES, FormName
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_
from lora_backend.preflight.resolve import ResolvedConfig
from pages.parts.draft.facts import known_facts
from pages.parts.shell.language import language, say, t
from pages.parts.shell.markdown import bold, code, escape


def export_for_another_tool(config: ResolvedConfig) -> None:
    """Choose the tool, read what is lost, download its file."""
    st.markdown(bold(t(N_("For another tool"))))
    tool = st.segmented_control(
        t(N_("For")),
        EXPORT_TOOLS,
        default=EXPORT_TOOLS[0],
        required=True,
        key="export_tool",
        label_visibility="collapsed",
    )
    try:
        result = export_config(config.document.values, str(tool), _row_format(config))
    except ConfigError as error:
        st.warning(say(error.message), icon=":material/block:")
        return
    for rows, heading in ((result.lost, NOT_CARRIED), (result.guesses, TO_CHECK)):
        if rows:
            st.caption(t(heading, title=result.title))
        for row in rows:
            st.markdown(
                f"{code(row.key)}: {escape(in_short(row.key, row.value, language=language()))}. {say(row.message)}"
            )
    if not (result.lost or result.guesses):
        st.caption(t(ALL_WRITTEN, title=result.title))
    st.download_button(
        t(N_("Download {file}"), file=result.file_name),
        result.text,
        file_name=result.file_name,
        on_click="ignore",
        icon=":material/download:",
        key="export_file",
    )


def _row_format(config: ResolvedConfig) -> FormName | None:
    data = known_facts(config).data
    return next((kind for kind in FORM_NAMES if data is not None and data.format == kind), None)
