"""The models on this machine, for the places where one is chosen."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lora_backend.models.local import LocalModel, local_models
from pages.parts.shell.services import installation

MODELS_LAST_S = 30


def models_here() -> list[str]:
    """What `model_name` can say: hub ids of the cache first, then folders."""
    return [model.name for model in found_models()]


def found_models() -> list[LocalModel]:
    """The same, each with its folder and the bytes of its weights."""
    return _models(installation().model_roots)


def forget_models() -> None:
    """Look again: one was downloaded or deleted."""
    _models.clear()


@st.cache_data(show_spinner=False, ttl=MODELS_LAST_S, max_entries=8)
def _models(roots: tuple[Path, ...]) -> list[LocalModel]:
    return local_models(roots)
