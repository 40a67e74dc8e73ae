"""A draft written for another tool, with what that tool cannot say."""

from __future__ import annotations

from typing import Any

import streamlit as st

from lora_backend.config.findings import shorten
from lora_backend.config.foreign.exporting import EXPORT_TOOLS, export_config
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_
from pages.parts.language import say, t
from pages.parts.markdown import code, escape


def export_for_another_tool(values: dict[str, Any]) -> None:
    """Choose the tool, read what is lost, download its file."""
    with st.popover(t(N_("Export")), icon=":material/output:"):
        tool = st.segmented_control(
            t(N_("For")), EXPORT_TOOLS, default=EXPORT_TOOLS[0], required=True, key="export_tool"
        )
        try:
            result = export_config(values, str(tool))
        except ConfigError as error:
            st.warning(say(error.message), icon=":material/block:")
            return
        if result.lost:
            st.caption(t(N_("Not carried over to {title}:"), title=result.title))
            for row in result.lost:
                st.markdown(f"{code(row.key)}: {escape(shorten(row.value))}. {say(row.message)}")
        else:
            st.caption(t(N_("Everything could be written for {title}."), title=result.title))
        st.download_button(
            t(N_("Download {file}"), file=result.file_name), result.text, file_name=result.file_name, on_click="ignore",
            icon=":material/download:", key="export_file",
        )  # fmt: skip
