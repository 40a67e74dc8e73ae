"""Runs in words: states, stages, and what one waits for; the same in a terminal and on a page."""

from __future__ import annotations

from typing import Any

from lora_backend.formats import number, size, when
from lora_backend.i18n import N_, Message, Plural
from lora_backend.runs.checkpoints.manifest import UNUSABLE
from lora_backend.runs.history.loss_health import OVERFLOW_POINTS, LossHealth
from lora_backend.runs.processes.queue import Waiting
from lora_backend.runs.processes.supervisor import KILL_AFTER_S
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.run_folder import RunFolder

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
    "first_step": N_("testing the longest batch for memory"),
    "training": N_("training"),
    "saving": N_("saving the adapter"),
    "answering": N_("answering the questions"),
}


_JUDGED = frozenset({"running", "stopping", "stopped", "finished"})
"""States beside which it is said how the loss went; a failure has a cause of its own."""


def says_of_loss(state: str, health: LossHealth) -> bool:
    """Whether a run in `state` is shown with how its loss went."""
    return health.is_bad and state in _JUDGED


def state_message(state: str, health: LossHealth | None = None) -> Message:
    """A state, and beside it how the loss went where that was not well: `Finished, loss 9 × its start`."""
    word = Message(STATE_WORDS[state])
    if health is None or not says_of_loss(state, health):
        return word
    if health.code == "dead":
        return Message(N_("{state}, dead: it is not learning"), {"state": word})
    template = N_("{state}, loss {ratio} × its start") if health.code == "diverged" else N_("{state}, loss {ratio} × its lowest")  # fmt: skip
    return Message(template, {"state": word, "ratio": _times(health)})


def health_message(health: LossHealth) -> Message:
    """What is wrong with a loss, and what to do about it."""
    values: dict[str, object] = {"now": number(health.loss), "before": number(health.reference), "step": health.step, "ratio": _times(health)}  # fmt: skip
    if health.code == "diverged":
        return Message(N_("The loss is {now}, {ratio} × its start ({before}), and has been far above it since step {step}. Start a new run with a lower `learning_rate` or `alpha`."), values)  # fmt: skip
    if health.code == "rose":
        return Message(N_("The loss is {now}, after {before} at step {step}: what was learned is being lost. Start a new run with a lower `learning_rate`."), values)  # fmt: skip
    if health.vocabulary_size:
        return Message(N_("The loss stands still at {now}, the loss of guessing among {size} tokens: the model is dead. Start a new run with a lower `learning_rate` or `alpha`."), {"now": number(health.loss), "size": health.vocabulary_size})  # fmt: skip
    if health.overflown:
        return Message(N_("The gradient was NaN or infinite at {count} of the last {total} points, and those steps changed nothing: the model is dead. Start a new run with a lower `learning_rate` or `alpha`, or in bf16 or fp32 if it was in fp16."), {"count": health.overflown, "total": OVERFLOW_POINTS})  # fmt: skip
    return Message(N_("The gradient is 0 and the loss stands still at {now}: nothing is learned any more. Start a new run with a lower `learning_rate` or `alpha`, and check that the data has tokens to learn."), {"now": number(health.loss)})  # fmt: skip


def _times(health: LossHealth) -> str:
    ratio = health.ratio or 0.0
    return f"{ratio:,.0f}" if ratio >= 9.5 else f"{ratio:.2g}"


AFTER_TRAINING = ("saving", "answering")
"""Stages in which no checkpoint is made any more."""
WITH_STEPS = ("first_step", "training")
"""Stages in which one is made after the next step; before them nothing is trained yet."""


def stage_message(stage: str | None) -> Message:
    """What the trainer is at; before it says so, that Python and torch are starting."""
    return Message(_STAGES.get(stage or "", N_("starting Python and torch")))


def stopping_messages(run: RunFolder) -> list[Message]:
    """What a stop that was asked for does now, and when the run has ended at the latest."""
    stage = run.status().get("stage")
    if stage in AFTER_TRAINING:
        asked = N_("Stop requested. The model is trained: its adapter is saved, then the run ends.")
    elif stage in WITH_STEPS:
        asked = N_("Stop requested. The trainer saves a checkpoint at its next step and ends.")
    else:
        asked = N_("Stop requested. The run ends before its first step.")
    latest = ended_at_latest(run)
    if latest is None:
        return [
            Message(asked),
            Message(N_("No supervisor is watching it, so nothing will end it if it does not stop.")),
        ]
    return [
        Message(asked),
        Message(N_("It will be ended at {time} at the latest."), {"time": when(latest, "%H:%M:%S")}),
    ]


def ended_at_latest(run: RunFolder) -> float | None:
    """When a run whose stop was asked for is killed if it has not ended; None where no supervisor would do that."""
    request = read_json(run.stop_request) or {}
    asked_at, deadline_s = request.get("time"), request.get("deadline_s")
    if not run.status().get("supervisor") or not isinstance(asked_at, int | float) or not isinstance(deadline_s, int | float):  # fmt: skip
        return None
    return asked_at + deadline_s + KILL_AFTER_S


COPIED = N_("This run was queued on another machine and copied here, so it does not start by itself. Remove it from the queue, then resume it.")  # fmt: skip


def damaged_messages(damaged: Any) -> list[Message]:
    """What is wrong with checkpoints that are passed over, as `Damaged.to_json` gives them."""
    found: list[Message] = []
    for item in damaged if isinstance(damaged, list) else ():
        if not isinstance(item, dict) or not isinstance(item.get("problems"), list):  # another hand's
            continue
        name, problems = str(item.get("checkpoint")), [str(problem) for problem in item["problems"]]
        unusable = [problem.partition(":")[0] for problem in problems if problem.endswith(f": {UNUSABLE}")]
        others = [problem for problem in problems if not problem.endswith(f": {UNUSABLE}")]
        found += [
            Message(N_("{file} of {checkpoint} is damaged or unsafe and was not loaded."), {"file": file, "checkpoint": name})
            for file in unusable
        ]  # fmt: skip
        if others:
            found.append(Message(N_("{checkpoint} is damaged: {problems}."), {"checkpoint": name, "problems": ", ".join(others)}))  # fmt: skip
    return found


def passed_over_messages(run: RunFolder) -> list[Message]:
    """Which checkpoints the newest start did not go on from because they are damaged, and where it began instead."""
    attempt = run.attempt()
    damaged = damaged_messages(attempt.get("passed_over") or attempt.get("damaged") or ())
    if not damaged:
        return []
    checkpoint = attempt.get("resume_from")
    if not isinstance(checkpoint, str):
        return [*damaged, Message(N_("No checkpoint before is whole, so the run began again at its first step."))]
    return [*damaged, Message(N_("The run goes on from {checkpoint}."), {"checkpoint": checkpoint})]


def waiting_messages(waiting: Waiting) -> list[Message]:
    """Who has the devices of a queued run, who came before it, and what its plan lacks; empty where its turn has come."""
    if waiting.is_copied:
        return [Message(COPIED)]
    found = []
    if waiting.holders:
        names = ", ".join(sorted({holder.run for holder in waiting.holders}))
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
