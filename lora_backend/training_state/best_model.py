"""Which evaluation was the best, how long ago that was, and the adapter of its checkpoint: in transformers' meaning.

All of it follows from the evaluations so far, which a checkpoint keeps: so a resumed run decides as one that went through
(`EarlyStoppingCallback` and `Trainer._determine_best_metric` of transformers 5.23).
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from peft import PeftModel

from lora_backend.config.best_figure import LOSS, BestBy
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.peers.gradients import share_first_weights
from lora_backend.peers.peers import Alone, Peers
from lora_backend.runs.checkpoints.manifest import best_checkpoint, step_of, verified
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training_state.resume_point import load_adapter
from lora_backend.training_state.state import Progress

logger = logging.getLogger(__name__)


class BestEvaluation(NamedTuple):
    """The best so far, and how many have come since that were no improvement."""

    step: int | None
    """None before the first whose figure is a number."""
    value: float | None
    without_improvement: int


def best_evaluation(progress: Progress, config: TrainingConfig) -> BestEvaluation:
    """An evaluation improves where it is better than the best before it by more than `early_stopping_threshold`; the best
    is any that is better at all. The first always improves."""
    best_by = BestBy.of(config.model_dump())
    step: int | None = None
    value, lowest, count, is_first = None, float("inf"), 0, True
    for at, figure in figures(progress, best_by).items():
        score = float("nan") if figure is None else best_by.score(figure)
        improves = is_first or (score < lowest and lowest - score > config.early_stopping_threshold)
        count, is_first = 0 if improves else count + 1, False
        if score < lowest:
            step, value, lowest = at, figure, score
    return BestEvaluation(step, value, count)


def stops_early(progress: Progress, config: TrainingConfig) -> bool:
    """Whether no further step shall be begun, for want of improvement."""
    patience = config.early_stopping_patience
    return patience is not None and best_evaluation(progress, config).without_improvement >= patience


def figures(progress: Progress, best_by: BestBy) -> dict[int, float | None]:
    """Step → figure of the evaluation there, in the order of steps."""
    found = progress.evaluations if best_by.column == LOSS else progress.accuracies
    return dict(sorted(found.items()))


def scores(progress: Progress, config: TrainingConfig) -> dict[int, float]:
    """Step → score, the lowest the best, of the checkpoints among which the best is chosen.

    Where the run shall end with it, those alone that the config asked for.
    """
    best_by = BestBy.of(config.model_dump())
    found = {step: best_by.score(value) for step, value in figures(progress, best_by).items() if value is not None}
    if not config.load_best_model_at_end:
        return found
    return {step: score for step, score in found.items() if step in progress.checkpoints}


def load_best(
    model: PeftModel, folder: RunStore, progress: Progress, config: TrainingConfig, peers: Peers | None = None
) -> int:
    """Put the adapter of the best checkpoint into `model`, and return its step; that of the last step where no checkpoint
    was evaluated. Raises `RunError` where the checkpoint is damaged. `peers`: who does so together; on machines without
    checkpoints they take it from the first."""
    peers = peers or Alone()
    own = best_checkpoint(folder, scores(progress, config))
    has_all = peers.gathered(own.name if own else None)
    if len(set(has_all)) == 1:
        return _load_best(model, folder, progress, config)
    step = peers.agreed(_load_best(model, folder, progress, config) if peers.is_first else 0)
    share_first_weights([one for one in model.parameters() if one.requires_grad], peers)
    return step


def _load_best(model: PeftModel, folder: RunStore, progress: Progress, config: TrainingConfig) -> int:
    known = scores(progress, config)
    best = best_checkpoint(folder, known)
    if best is None:
        logger.warning("no checkpoint was evaluated: the adapter is that of step %s, the last", progress.step)
        return progress.step
    step = step_of(best) or 0
    if known[step] > min(known.values()):
        logger.warning(
            "the checkpoint of the best evaluation is gone; %s is the best of those that are left", best.name
        )
    if step == progress.step:
        return step
    if problems := verified(best):
        raise RunError(
            N_(
                "{checkpoint} is the best, but damaged ({problems}), so the run cannot end with it. To end with the adapter of the last step, resume with `load_best_model_at_end: false`."
            ),
            checkpoint=best.name,
            problems="; ".join(problems),
        )
    load_adapter(model, best)
    return step
