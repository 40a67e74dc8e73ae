"""What a run's processes have left behind: known by its name in the run's status, or by a mark in its environment."""

from __future__ import annotations

import os
import signal

from lora_backend.runs.record.process_identity import marked, signal_process
from lora_backend.runs.record.run_store import RunStore

RUN_MARK = "FLIGHTDECK_RUN"
"""Set to the run's folder for its trainer and all that it starts, so that none of them is left behind."""


def end_leftovers(folder: RunStore) -> None:
    """End at once the processes that train the run together on this machine, and whatever bears its mark, but this process."""
    meeting = folder.read_attempt().meeting
    own = meeting.node if meeting else 0
    named = (peer.process for peer in folder.read_status().attempt.peers if peer.node == own)
    for left in (*filter(None, named), *marked(RUN_MARK, str(folder.path))):
        if left.pid != os.getpid():
            signal_process(left, signal.SIGKILL)
