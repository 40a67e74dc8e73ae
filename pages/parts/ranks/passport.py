"""Provenance: whether adapter, config, base model and data are those that it was trained with. One line a part."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.config.short_values import in_short
from lora_backend.i18n import N_
from lora_backend.verification.passport import Part
from pages.parts.shell.language import language, say, t
from pages.parts.shell.markdown import code
from pages.parts.widgets.frames import markdown_frame

LONG = 120
"""Characters of a value that are shown."""

PARTS = {
    "passport": N_("Provenance record"),
    "config": N_("Config"),
    "tensors": N_("Tensors"),
    "adapter_config": N_("Adapter's own config"),
    "base_model": N_("Base model"),
    "data": N_("Data"),
}
SIGNS = {
    "same": ":green[✓ {word}]",
    "partly": ":orange[~ {word}]",
    "different": ":red[✗ {word}]",
    "unknown": ":gray[? {word}]",
}
WORDS = {"same": N_("same"), "partly": N_("in part"), "different": N_("different"), "unknown": N_("not checked")}


def show_passport(parts: Sequence[Part]) -> None:
    """The verdict, then every part."""
    different = [t(PARTS[part.name]) for part in parts if part.verdict == "different"]
    if different:
        st.error(
            t(N_("Not what the adapter was trained with: {parts}."), parts=", ".join(different)),
            icon=":material/fingerprint:",
        )
    elif any(part.verdict == "partly" for part in parts):
        st.warning(
            t(N_("The data was changed while the run was trained, which was confirmed.")), icon=":material/fingerprint:"
        )
    elif all(part.verdict == "same" for part in parts):
        st.success(t(N_("Everything matches, and the adapter is unchanged.")), icon=":material/fingerprint:")
    else:
        st.info(t(N_("Everything that could be checked matches.")), icon=":material/fingerprint:")
    for part in parts:
        sign = t(SIGNS[part.verdict], word=t(WORDS[part.verdict]))
        st.markdown(f"**{t(PARTS[part.name])}** · {sign} · {say(part.detail)}")
        if part.differing:
            columns = [t(N_("Key")), t(N_("Adapter was trained with")), t(N_("Config to check against"))]
            rows = [
                [code(key), *(code(in_short(key, side, LONG, language())) for side in sides)]
                for key, *sides in part.differing
            ]
            st.table(markdown_frame(columns, rows))
