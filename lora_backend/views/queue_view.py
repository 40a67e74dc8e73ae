"""What a queued run waits for, and when it is expected to start and end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_backend.formats import seconds_range, size, when
from lora_backend.i18n import N_, Message, Plural
from lora_backend.runs.history.forecast import Forecast, forecasts
from lora_backend.runs.history.run_table import RunRow
from lora_backend.runs.processes.lease_requests import is_chat
from lora_backend.runs.processes.queue import Waiting, waiting_for
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.run_store import RunStore

COPIED = N_(
    "This run was queued on another machine and copied here, so it does not start automatically. Remove it from the queue, then resume it."
)

TOLD_BY_TIME_S = 20 * 3600.0
"""A moment that is nearer has no day beside its time."""


def waiting_messages(waiting: Waiting) -> list[Message]:
    """That it starts by itself, who has its devices, who came before it, and what its plan lacks."""
    if waiting.is_copied:
        return [Message(COPIED)]
    found = [Message(N_("It starts automatically when its turn comes."))]
    if waiting.holders:
        if any(map(is_chat, waiting.holders)):
            found.append(Message(N_("A model on the Try page is using its device and is making room now.")))
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


def expected_messages(workspace: Path, rows: Sequence[RunRow], now: float) -> dict[str, list[Message]]:
    """What is expected of each of `rows` that has not ended, by its id; other runs are called by their titles."""
    if all(row.state.has_ended for row in rows):
        return {}
    names = {row.id: row.title for row in rows}
    found = forecasts(workspace, rows, now)
    return {run_id: forecast_messages(forecast, names, now) for run_id, forecast in found.items()}


def forecast_messages(forecast: Forecast | None, names: Mapping[str, str], now: float) -> list[Message]:
    """When it starts and ends, each where that is known, and what that is judged by. `names`: what runs are called, by id."""
    return [*_start(forecast, names, now), *_end(forecast, names, now)] if forecast else []


def _start(forecast: Forecast, names: Mapping[str, str], now: float) -> list[Message]:
    if forecast.starts is None:
        return []
    early, late = (max(moment - now, 0.0) for moment in forecast.starts)
    after = forecast.after and names.get(forecast.after, forecast.after)
    if late < 1:
        return [Message(N_("Starts as soon as {run} ends."), {"run": after})] if after else []
    time = seconds_range(early, late)
    if after:
        return [Message(N_("Starts in {time}, after {run}."), {"time": time, "run": after})]
    return [Message(N_("Starts in {time}."), {"time": time})]


def _end(forecast: Forecast, names: Mapping[str, str], now: float) -> list[Message]:
    if forecast.ends is None:
        return []
    early, late = (_moment(end, now) for end in forecast.ends)
    at = Message(N_("at about {time}"), {"time": early})
    if early != late:
        at = Message(N_("between {early} and {late}"), {"early": early, "late": late})
    if forecast.source == "plan":
        return [Message(N_("Ends {at}, by the plan's estimate."), {"at": at})]
    if forecast.like:
        like = names.get(forecast.like, forecast.like)
        return [Message(N_("Ends {at}, if it takes as long as {run}."), {"at": at, "run": like})]
    return [Message(N_("Ends {at}, by its own speed."), {"at": at})]


def _moment(seconds: float, now: float) -> str:
    """The time of day, with the day where that could be another one's."""
    return when(seconds, "%H:%M" if seconds - now < TOLD_BY_TIME_S else "%Y-%m-%d %H:%M")


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
