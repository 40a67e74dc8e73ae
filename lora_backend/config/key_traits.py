"""What is to be known of a key beyond its type: where it is shown, what it touches, what others call it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from lora_backend.i18n import N_

Effect = Literal["memory", "ranks", "steps"]
"""What another value of a key may change: bytes on a device, ranks of layers, the number of optimizer steps."""
PathKind = Literal["model", "adapter", "rows", "published"]
"""What a path leads to: a model, an adapter to begin with, a file of rows, the place where a finished adapter goes."""


@dataclass(frozen=True)
class OnResume:
    """What another value means for a run that is resumed, and why.

    `same_rows`: safe where an optimizer step has as many rows as before, refused where it has not. `same_packing`: safe
    where rows are packed as before, or were not and are not. `same_states`: safe where the other optimizer is the same
    one in another kernel, else refused.
    """

    outcome: Literal["safe", "restarts_schedule", "refused", "same_rows", "same_packing", "same_states"]
    why: str


ResumeWord = Literal[
    "saving",
    "from_here",
    "place",
    "same_sum",
    "same_rows",
    "same_packing",
    "schedule",
    "model",
    "adapter",
    "data",
    "optimizer",
]
ON_RESUME: dict[ResumeWord, OnResume] = {
    "saving": OnResume("safe", N_("Affects what is written and when, not what is learned.")),
    "from_here": OnResume("safe", N_("Takes effect from the step that the run has reached.")),
    "place": OnResume("safe", N_("Sets which devices compute. Another device rounds differently, so the curve will be close to, but not exactly, what it would have been.")),
    "same_sum": OnResume("safe", N_("Computes the same result in another way. Rounding differs, so the curve will be close to, but not exactly, what it would have been.")),
    "same_rows": OnResume("same_rows", N_("It changes the rows per step ({old} → {new}), and so the position in the data. Keep `target_batch_size` at {old}.")),
    "same_packing": OnResume("same_packing", N_("A step of packed lines covers other data than a step of rows, so the position in the data would be wrong. Keep `batching: {old}`.")),
    "schedule": OnResume("restarts_schedule", N_("The learning rate schedule is recomputed and continues from the step that the run has reached.")),
    "model": OnResume("refused", N_("It would be another model, and the checkpoint is of this one.")),
    "adapter": OnResume("refused", N_("The checkpoint's adapter has the shape that the run began with.")),
    "data": OnResume("refused", N_("The run would continue with data other than it has read so far.")),
    "optimizer": OnResume("same_states", N_("The checkpoint holds the state of the optimizer that the run began with.")),
}  # fmt: skip
"""What a changed key touches → what that means for a run that is resumed."""


@dataclass(frozen=True, kw_only=True)
class KeyTraits:
    """All that the schema says of a key beside type, bounds, default and help."""

    group: str
    on_resume: ResumeWord
    unit: str | None = None
    """A word of the field (steps, tokens, GiB)."""
    common: bool = False
    """Whether it stands in the short form."""
    path: PathKind | None = None
    portable: bool = True
    """False: another machine has another value for the same thing, so a passport does not compare it."""
    plans: bool = False
    """Whether the question to the plan has it: the plan page's controls and address."""
    affects: frozenset[Effect] = frozenset()
    trainer: str | None = None
    """The field of transformers' TrainingArguments that takes the same value."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """Tool → its key with the same meaning; a tool's own module says where values have to be translated."""

    def __call__(self, json_schema: object) -> None:
        """pydantic calls it for the JSON Schema, which shows none of these."""


def key(
    default: Any,
    help_text: str,
    *,
    group: str,
    on_resume: ResumeWord,
    unit: str | None = None,
    common: bool = False,
    path: PathKind | None = None,
    portable: bool = True,
    plans: bool = False,
    affects: Collection[Effect] = (),
    trainer: str | None = None,
    foreign: Mapping[str, str] | None = None,
    **bounds: Any,
) -> Any:
    """One key of the schema with its traits (`KeyTraits`); what is left are pydantic's bounds."""
    traits = KeyTraits(
        group=group,
        on_resume=on_resume,
        unit=unit,
        common=common,
        path=path,
        portable=portable,
        plans=plans,
        affects=frozenset(affects),
        trainer=trainer,
        foreign=dict(foreign or {}),
    )
    return Field(default, description=help_text, json_schema_extra=traits, **bounds)
