"""The state of a run in words: what it is at, what a stop does now, which checkpoints are passed over."""

from __future__ import annotations

from collections.abc import Sequence

from lora_backend.formats import when
from lora_backend.i18n import N_, Message
from lora_backend.runs.checkpoints.manifest import UNUSABLE
from lora_backend.runs.history.loss_health import LossHealth
from lora_backend.runs.processes.supervisor import KILL_AFTER_S
from lora_backend.runs.record.attempts import DamagedCheckpoint
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import AFTER_TRAINING, WITH_STEPS, RunState

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
    "meeting": N_("waiting for the other machines"),
    "first_step": N_("testing the longest batch for memory"),
    "training": N_("training"),
    "saving": N_("saving the adapter"),
    "answering": N_("answering the questions"),
    "reading": N_("reading the files"),
    "measuring": N_("measuring the loss"),
    "truncating": N_("truncating the ranks"),
    "merging": N_("merging the weights"),
    "writing": N_("writing the files"),
    "checking": N_("checking the result"),
    "downloading": N_("downloading"),
    "uploading": N_("uploading"),
}


STOPPING_JOBS = {
    "evaluate": N_("Stop requested. It ends after the current rows."),
    "export": N_("Stop requested. Unfinished work is removed."),
    "download": N_("Pause requested. What has been downloaded is kept."),
}
"""What a stop does to a run that trains nothing."""


def state_message(state: str, health: LossHealth | None = None) -> Message:
    """A state, and beside it how the loss went where that was not well: `Finished, loss 9 × its start`."""
    word = Message(STATE_WORDS[state]) if state in STATE_WORDS else Message("{state}", {"state": state})
    if health is None or not health.is_told_beside(state):
        return word
    if health.code == "dead":
        return Message(N_("{state}, dead: it is not learning"), {"state": word})
    template = (
        N_("{state}, loss {ratio} × its start")
        if health.code == "diverged"
        else N_("{state}, loss {ratio} × its lowest")
    )
    return Message(template, {"state": word, "ratio": health.times})


def stage_message(stage: str | None) -> Message:
    """What the trainer is at; before it says so, that Python and torch are starting."""
    return Message(_STAGES.get(stage or "", N_("starting Python and torch")))


def stage_parts(state: RunState) -> list[Message]:
    """What the trainer is at, and what that stage has to say of itself: `answered 12 of 46, about 20 s left`."""
    if state.stage is None and state.detail:  # a job that waits: nothing of it has begun
        return [state.detail]
    return [stage_message(state.stage), *([state.detail] if state.detail else [])]


def stopping_messages(run: RunStore) -> list[Message]:
    """What a stop that was asked for does now, and when the run has ended at the latest."""
    stage = run.read_status().attempt.stage
    record = run.glance_at_record()
    if record and record.kind in STOPPING_JOBS:
        asked = STOPPING_JOBS[record.kind]
    elif stage in AFTER_TRAINING:
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
    if run.read_status().attempt.job is not None:
        then = N_("If it has not ended by {time}, its job is cancelled and watched until it ends.")
        return [Message(asked), Message(then, {"time": when(latest, "%H:%M:%S")})]
    return [
        Message(asked),
        Message(N_("It will be ended at {time} at the latest."), {"time": when(latest, "%H:%M:%S")}),
    ]


def ended_at_latest(run: RunStore) -> float | None:
    """When a run whose stop was asked for is killed if it has not ended; None where no supervisor would do that."""
    request = run.read_stop_request()
    if request is None or request.time is None or run.read_status().attempt.supervisor is None:
        return None
    return request.time + request.deadline_s + KILL_AFTER_S


def damaged_messages(damaged: Sequence[DamagedCheckpoint]) -> list[Message]:
    """What is wrong with checkpoints that are passed over."""
    found: list[Message] = []
    for item in damaged:
        name = item.checkpoint
        unusable = [problem.partition(":")[0] for problem in item.problems if problem.endswith(f": {UNUSABLE}")]
        others = [problem for problem in item.problems if not problem.endswith(f": {UNUSABLE}")]
        found += [
            Message(
                N_("{file} of {checkpoint} is damaged or unsafe and was not loaded."),
                {"file": file, "checkpoint": name},
            )
            for file in unusable
        ]
        if others:
            found.append(
                Message(N_("{checkpoint} is damaged: {problems}."), {"checkpoint": name, "problems": ", ".join(others)})
            )
    return found


def passed_over_messages(run: RunStore) -> list[Message]:
    """Which checkpoints the newest start did not go on from because they are damaged, and where it began instead."""
    attempt = run.read_attempt()
    damaged = damaged_messages(attempt.passed_over or attempt.damaged)
    if not damaged:
        return []
    checkpoint = attempt.resume_from
    if checkpoint is None:
        return [
            *damaged,
            Message(N_("No earlier checkpoint is complete, so the run started again from the first step.")),
        ]
    return [*damaged, Message(N_("The run continues from {checkpoint}."), {"checkpoint": checkpoint})]
