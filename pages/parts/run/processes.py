"""The processes that train a run together: which they are, and how each is doing."""

from __future__ import annotations

import streamlit as st

from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.peers_view import HEADS, shown_peers
from pages.parts.shell.language import t
from pages.parts.widgets.frames import markdown_frame

COLUMNS = ("rank", "device", "state", "pid", "node")


def run_processes(run: RunStore) -> None:
    """A row for each; nothing where one process trains alone."""
    peers = shown_peers(run)
    if not peers:
        return
    heads = [t(HEADS[name]) for name in COLUMNS]
    rows = [[str(peer.rank), peer.device, t(peer.state), str(peer.pid or "–"), peer.host] for peer in peers]
    st.table(markdown_frame(heads, rows).set_index(heads[0]))
