"""The processes that train a run together: which they are, and how each is doing."""

from __future__ import annotations

import streamlit as st

from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.job_view import job_message
from lora_backend.views.peers_view import HEADS, shown_peers
from pages.parts.shell.language import say, t
from pages.parts.widgets.frames import markdown_frame

COLUMNS = ("rank", "device", "state", "pid")


def run_processes(run: RunStore) -> None:
    """A row for each; nothing where one process trains alone. Before it the job, where a cluster trains the run."""
    if job := job_message(run):
        st.caption(say(job))
    peers = shown_peers(run)
    if not peers:
        return
    heads = [t(HEADS[name]) for name in COLUMNS]
    rows = [[str(peer.rank), peer.device, t(peer.state), str(peer.pid or "–")] for peer in peers]
    if run.read_attempt().num_nodes > 1:
        heads.append(t(HEADS["node"]))
        rows = [[*row, peer.machine] for row, peer in zip(rows, peers, strict=True)]
    st.table(markdown_frame(heads, rows).set_index(heads[0]))
