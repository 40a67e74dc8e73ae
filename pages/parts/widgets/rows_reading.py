"""A bar while a large file of rows is read: the reading is another process's, so only this session waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.config.key_queries import DATA_KEYS
from lora_backend.data.summary import reading_of
from lora_backend.errors import FlightdeckError
from lora_backend.formats import size
from lora_backend.i18n import N_
from lora_backend.preflight.facts import kept_summaries
from lora_backend.preflight.roots import bind_paths
from pages.parts.shell.language import t
from pages.parts.shell.services import settings

TELL_EVERY_S = 0.2


@contextmanager
def reading_bar(name: str, size_bytes: int) -> Iterator[Callable[[float], None]]:
    """A function that shows how much is read, from 0 to 1; nothing where nobody calls it, and nothing afterwards."""
    place = st.empty()

    def tell(fraction: float) -> None:
        place.progress(fraction, t(N_("Reading {file} ({size}) …"), file=name, size=size(size_bytes)))

    try:
        yield tell
    finally:
        place.empty()


def wait_for_rows(values: Mapping[str, Any]) -> None:
    """Let the large files that a config names be read before it is checked; what is wrong with them the check says."""
    for key in DATA_KEYS:
        try:
            path = Path(bind_paths({key: values[key]}, settings())[key])
        except (FlightdeckError, OSError, ValueError, KeyError, TypeError):
            continue
        reading = reading_of(path, key, kept=kept_summaries(settings()))
        if reading is None or reading.is_done:
            continue
        with reading_bar(path.name, reading.size_bytes) as tell:
            while not reading.is_done:
                tell(reading.fraction)
                reading.wait_a_moment(TELL_EVERY_S)
