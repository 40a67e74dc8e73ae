"""Runs in words: states, stages, and what one waits for; the same in a terminal and on a page."""

from __future__ import annotations

from lora_backend.formats import size
from lora_backend.i18n import N_, Message
from lora_backend.runs.queue import Waiting

STATE_WORDS = {
    "queued": N_("Queued"),
    "starting": N_("Starting"),
    "running": N_("Running"),
    "stopping": N_("Stopping"),
    "stopped": N_("Stopped"),
    "finished": N_("Finished"),
    "failed": N_("Failed"),
    "lost": N_("Lost"),
}
_STAGES = {
    "preparing": N_("preparing the model"),
    "data": N_("reading the data"),
    "loading": N_("loading the model"),
    "first_step": N_("trying the longest batch"),
    "training": N_("training"),
    "saving": N_("saving the adapter"),
    "answering": N_("answering the questions"),
}


def stage_message(stage: str | None) -> Message:
    """What the trainer is at; before it says so, that Python and torch are starting."""
    return Message(_STAGES.get(stage or "", N_("starting Python and torch")))


def waiting_messages(waiting: Waiting) -> list[Message]:
    """Who has the devices of a queued run, who came before it, and what its plan lacks; empty where its turn has come."""
    found = []
    if waiting.holders:
        names = ", ".join(sorted({holder.run for holder in waiting.holders}))
        found.append(Message(N_("{runs} has its device."), {"runs": names}))
    if waiting.ahead:
        values = {"count": len(waiting.ahead), "runs": ", ".join(waiting.ahead)}
        found.append(Message(N_("{count} runs came before it: {runs}."), values))
    for uuid, short_bytes in (waiting.short_bytes or {}).items():
        found.append(Message(N_("{size} more must become free on {gpu}."), {"size": size(short_bytes), "gpu": uuid}))
    if waiting.missing:
        found.append(Message(N_("The driver does not show {gpus}."), {"gpus": ", ".join(waiting.missing)}))
    return found
