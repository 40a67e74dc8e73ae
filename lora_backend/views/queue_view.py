"""What a queued run waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_backend.formats import duration, size
from lora_backend.i18n import N_, Message, Plural
from lora_backend.runs.processes.lease_requests import is_chat
from lora_backend.runs.processes.queue import Waiting, waiting_for
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.run_store import RunStore

COPIED = N_(
    "This run was queued on another machine and copied here, so it does not start by itself. Remove it from the queue, then resume it."
)


def waiting_messages(waiting: Waiting) -> list[Message]:
    """That it starts by itself, who has its devices, who came before it, and what its plan lacks."""
    if waiting.is_copied:
        return [Message(COPIED)]
    found = [Message(N_("It starts by itself when its turn comes."))]
    if waiting.holders:
        if any(map(is_chat, waiting.holders)):
            found.append(Message(N_("A model that is being tried has its device, and makes room for it now.")))
        names = ", ".join(sorted({holder.run for holder in waiting.holders if not is_chat(holder)}))
        if names:
            found.append(Message(N_("{runs} has its device."), {"runs": names}))
    if waiting.ahead:
        values = {"count": len(waiting.ahead), "runs": ", ".join(waiting.ahead)}
        found.append(
            Message(Plural("{count} run came before it: {runs}.", "{count} runs came before it: {runs}."), values)
        )
    for uuid, short_bytes in (waiting.short_bytes or {}).items():
        found.append(Message(N_("{size} more must become free on {gpu}."), {"size": size(short_bytes), "gpu": uuid}))
    if waiting.missing:
        found.append(Message(N_("The driver does not show {gpus}."), {"gpus": ", ".join(waiting.missing)}))
    return found


def expected_start(waiting: Waiting, runs: Path) -> Message | None:
    """When its devices are free, where whoever has them says how long it takes; None where nobody can tell."""
    if waiting.ahead or not waiting.holders or any(map(is_chat, waiting.holders)):
        return None
    left = [RunStore(runs / holder.run).state().eta_s for holder in waiting.holders]
    known = [seconds for seconds in left if seconds is not None]
    if len(known) < len(left):
        return None
    return Message(N_("Starts in about {time}."), {"time": duration(max(known))})


def waiting_document(waiting: Waiting) -> dict[str, Any]:
    """The same for a script."""
    return {
        "holders": [{"device": holder.key, "run": holder.run, "since": holder.since} for holder in waiting.holders],
        "ahead": list(waiting.ahead),
        "short_bytes": dict(waiting.short_bytes or {}),
        "missing": list(waiting.missing),
    }


def started_message(run: RunStore) -> Message:
    """That a run has started, or what it waits for."""
    if recover(run).state != "queued":
        return Message(N_("{id}: started. {path}"), {"id": run.id, "path": str(run.path)})
    waiting = waiting_messages(waiting_for(run, run.workspace))
    return Message(N_("{id}: queued. {waiting}"), {"id": run.id, "waiting": waiting})
