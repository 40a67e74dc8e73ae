"""The figure of an evaluation by which the best checkpoint of a run is told, as its config says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lora_backend.i18n import N_, Message

FigureColumn = Literal["eval_loss", "eval_token_accuracy"]
"""Where a point of the curves has it."""
LOSS: FigureColumn = "eval_loss"
NAMES: Mapping[FigureColumn, str] = {
    "eval_loss": N_("evaluation loss"),
    "eval_token_accuracy": N_("evaluation token accuracy"),
}


@dataclass(frozen=True)
class BestBy:
    """What is compared, and which way round."""

    column: FigureColumn = LOSS
    greater_is_better: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> BestBy:
        """As a config says it, in transformers' meaning (`TrainingArguments`): a figure is named with or without `eval_`,
        it is the loss where none is, and more is better unless it is a loss. A value that is none counts as unset."""
        name = config.get("metric_for_best_model")
        column: FigureColumn = "eval_token_accuracy" if name in ("token_accuracy", "eval_token_accuracy") else LOSS
        greater = config.get("greater_is_better")
        return cls(column, greater if isinstance(greater, bool) else column != LOSS)

    @property
    def name(self) -> Message:
        """Within a sentence."""
        return Message(NAMES[self.column])

    def score(self, value: float) -> float:
        """So that the lowest is the best."""
        return -value if self.greater_is_better else value
