"""The adapters on this machine, for the places where one is chosen, by the words of an address."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lora_backend.installation import path_of
from lora_backend.models.adapters_here import AdapterHere, adapters_here, at_most
from pages.parts.shell.language import say_plain
from pages.parts.shell.services import installation

ADAPTERS_LAST_S = 10
MOST_LISTED = 400
"""A browser gets all of them at each rerun; what is left out can be typed."""


def listed_adapters() -> dict[str, AdapterHere]:
    """Address → adapter, in the order of a list."""
    return {adapter.address: adapter for adapter in _listed((installation().workspace, *installation().model_roots))}


def forget_adapters() -> None:
    """Look again: one was uploaded or deleted."""
    _listed.clear()


def adapter_label(adapter: AdapterHere) -> str:
    """What a list calls it, with its base model."""
    base = adapter.base_name
    named = say_plain(adapter.label)
    return named if base is None else f"{named} → {base}"


def named_adapter(words: str, listed: dict[str, AdapterHere]) -> AdapterHere | None:
    """The one that the words of an address mean: their own, or its folder, also relative to the workspace, or a checkpoint's."""
    if words in listed or not words:
        return listed.get(words)
    written = path_of(words)
    folder = None if written is None else installation().workspace / written
    return next((one for one in listed.values() if folder in _places(one)), None)


def _places(adapter: AdapterHere) -> tuple[Path, ...]:
    """Its folder; of a checkpoint also that in which it lies."""
    return (adapter.folder, adapter.folder.parent) if adapter.origin == "checkpoint" else (adapter.folder,)


@st.cache_data(show_spinner=False, ttl=ADAPTERS_LAST_S, max_entries=4)
def _listed(roots: tuple[Path, ...]) -> list[AdapterHere]:
    return at_most(adapters_here(installation()), MOST_LISTED)
