"""What follows when no further step is trained: which adapter the run goes on with, and why it trained no further."""

from __future__ import annotations

from dataclasses import dataclass

from lora_backend.config.best_figure import BestBy
from lora_backend.i18n import Message, Plural
from lora_backend.runs.record.documents import EARLY_STOPPING
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training.loop import Training
from lora_backend.training.reporter import RunReporter
from lora_backend.training_state.best_model import best_evaluation, load_best, stops_early
from lora_backend.training_state.state import TrainState


@dataclass(frozen=True)
class TrainingEnd:
    """Of one start of a run."""

    adapter_step: int = 0
    """Step of the adapter that is in the model now."""
    stopped_early: Message | None = None
    """Said of a run that ended before its last step because its evaluations did not improve any more."""
    is_unfinished: bool = False
    """Something of what was asked for is still to be done: it was told to end."""

    def tell(self, folder: RunStore) -> None:
        """Leave it in the run's status, for whoever writes down its end."""
        if self.stopped_early is not None:
            with folder.changing_status() as status:
                status.attempt.outcome_cause, status.attempt.outcome_message = EARLY_STOPPING, self.stopped_early


def end_training(training: Training, state: TrainState, reporter: RunReporter) -> TrainingEnd:
    """Put the best checkpoint's adapter into the model where the config asks for it, or say that the run was stopped.

    Raises `RunError` where that checkpoint is damaged.
    """
    config, progress, folder = training.config, state.progress, reporter.folder
    best, best_by = best_evaluation(progress, config), BestBy.of(config.model_dump())
    is_evaluated = not progress.evaluation_pending
    is_whole = is_evaluated and progress.step >= training.batches.total_steps
    said = None
    if is_evaluated and not is_whole and stops_early(progress, config):
        said = Message(
            Plural(
                "Stopped early at step {step}: the {figure} has not improved for {count} evaluation.",
                "Stopped early at step {step}: the {figure} has not improved for {count} evaluations.",
            ),
            {"step": progress.step, "figure": best_by.name, "count": best.without_improvement},
        )
    adapter_step, is_unfinished = progress.step, reporter.ended_by is not None and not (is_whole or said)
    if is_unfinished:
        reporter.write_stopped(progress.step, config.max_time)
    elif config.load_best_model_at_end:
        adapter_step = load_best(state.model, folder, progress, config, reporter.peers)
        with folder.changing_attempt() as attempt:
            attempt.adapter_step = adapter_step
    reporter.ends(progress, best, adapter_step, best_by)
    return TrainingEnd(adapter_step, said, is_unfinished)
