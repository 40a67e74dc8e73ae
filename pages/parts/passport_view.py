"""Do this adapter, this config, this base model and this data belong together? One line a part."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.i18n import N_
from lora_backend.verification.passport import Part
from pages.parts.language import say, t

PARTS = {
    "passport": N_("Passport"),
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
WORDS = {"same": N_("same"), "partly": N_("in part"), "different": N_("different"), "unknown": N_("not known")}


def show_passport(parts: Sequence[Part]) -> None:
    """The verdict, then every part."""
    different = [t(PARTS[part.name]) for part in parts if part.verdict == "different"]
    if different:
        st.error(
            t(N_("They do not belong together. Different: {parts}."), parts=", ".join(different)),
            icon=":material/fingerprint:",
        )
    elif any(part.verdict == "partly" for part in parts):
        st.warning(
            t(N_("The data was changed while the run was trained, which was confirmed.")), icon=":material/fingerprint:"
        )
    elif all(part.verdict == "same" for part in parts):
        st.success(t(N_("They belong together, and the adapter is unchanged.")), icon=":material/fingerprint:")
    else:
        st.info(t(N_("What can be told agrees.")), icon=":material/fingerprint:")
    for part in parts:
        sign = t(SIGNS[part.verdict], word=t(WORDS[part.verdict]))
        st.markdown(f"**{t(PARTS[part.name])}** · {sign} · {say(part.detail)}")
