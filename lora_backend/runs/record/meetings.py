"""The runs of several machines that train one model: how their ids hang together, and what their code says."""

from __future__ import annotations

import re
import secrets

from lora_backend.runs.record.peer_documents import MachineMeeting

_CODE = re.compile(r"([0-9A-Za-z][0-9A-Za-z_-]{0,70})\.[0-9a-f]{16}")


def new_code(first: str) -> str:
    """A code for the machines of the run that has the id `first` on its first machine."""
    return f"{first}.{secrets.token_hex(8)}"


def first_run_of(code: str) -> str | None:
    """Id of the run on the first machine; None for what is no code."""
    found = _CODE.fullmatch(code)
    return found[1] if found else None


def run_id_of(meeting: MachineMeeting) -> str:
    """Id of the run that one machine makes for a meeting: the first's, with the machine's number behind it on the others."""
    return run_id_on(meeting.node, first_run_of(meeting.code) or "")


def run_id_on(node: int, first: str) -> str:
    """Id on the machine `node`, from 0, of the run that has the id `first` on the first."""
    return first if node == 0 else f"{first}-m{node + 1}"
