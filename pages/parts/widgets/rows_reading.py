"""A bar while a large file of rows is read: the reading is another process's, so only this session waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st

from lora_backend.data.summary import reading_of
from lora_backend.formats import size
from lora_backend.i18n import N_
from lora_backend.preflight.resolve import ResolvedConfig
from pages.parts.shell.language import t

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


def wait_for_rows(config: ResolvedConfig) -> None:
    """Let the large files that a config names be read before it is checked; what is wrong with them the check says."""
    for rows in config.rows:
        reading = None if rows.path is None else reading_of(rows.path, rows.kind, kept=rows.kept, read_as=rows.read_as)
        if rows.path is None or reading is None or reading.is_done:
            continue
        with reading_bar(rows.path.name, reading.size_bytes) as tell:
            while not reading.is_done:
                tell(reading.fraction)
                reading.wait_a_moment(TELL_EVERY_S)
