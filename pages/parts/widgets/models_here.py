"""The models on this machine, for the places where one is chosen."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lora_backend.models.local import local_models
from pages.parts.shell.services import installation

MODELS_LAST_S = 30


def models_here() -> list[str]:
    """What `model_name` can say: hub ids of the cache first, then folders."""
    return _models(installation().model_roots)


@st.cache_data(show_spinner=False, ttl=MODELS_LAST_S, max_entries=8)
def _models(roots: tuple[Path, ...]) -> list[str]:
    return local_models(roots)
