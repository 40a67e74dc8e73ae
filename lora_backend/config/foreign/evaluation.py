"""When rows are evaluated, and which ones: counts and shares, and what stays of it where no rows are held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import (
    Carried,
    Rule,
    Tool,
    as_taken,
    is_on,
    lost,
    nothing,
    number,
    take,
    translated,
)
from lora_backend.config.foreign.outcomes import ImportRow
from lora_backend.config.foreign.reasons import SAVING
from lora_backend.i18n import N_, Message, Plural

ROWS = N_(
    "{value} is a number of rows; here it is a share of them. Set `{target}` to {value} / the number of rows in the data set."
)
ROWS_NOTE = N_(
    "A share is carried over. A number of rows is not, because the file does not say how many rows there are."
)
STEPS = Plural("{share} of {count} step: `{target}` is {ours}.", "{share} of {count} steps: `{target}` is {ours}.")
STEPS_UNKNOWN = N_(
    "{value} is a share of all steps, and the file does not say how many there are. Set `{target}` to a number of steps."
)
STEPS_NOTE = N_("A share of the steps × `max_steps` gives the steps; without `max_steps` they cannot be computed.")
NO_ROWS = N_(
    "No rows are held out here, so nothing is evaluated. To evaluate, set `val_size` to a share of the rows, then set this key again."
)
FIGURE = N_("`{target}` is {ours}, the same figure.")
NO_BEST = N_("Nothing is evaluated here, so there is no best checkpoint. Evaluate some rows, then set this key again.")
NEED_EVALUATION = ("load_best_model_at_end", "early_stopping_patience")
EACH_EPOCH = N_("`{target}` is {ours}, since the steps between evaluations could not be carried over.")


def share_of_rows() -> Rule:
    """The rows to hold back → `val_size`, where they are a share."""

    def apply(source: Source, key: str) -> Carried:
        value = number(source.get(key))
        if value is not None and value >= 1:
            return lost(ROWS, value=value, target="val_size")
        return nothing(N_("Not set.")) if source.get(key) is None else as_taken("val_size", source.get(key))

    return Rule(apply, ("val_size",), ROWS_NOTE)


def steps_or_share(target: str, total_key: str = "max_steps") -> Rule:
    """Steps between two events; below 1 a share of all steps, as in transformers."""

    def apply(source: Source, key: str) -> Carried:
        value, total = number(source.get(key)), number(source.get(total_key))
        if source.get(key) is None:
            return nothing(N_("Not set."))
        if value is None or not 0 < value < 1:
            return as_taken(target, source.get(key))
        if total is None or total < 1:
            return lost(STEPS_UNKNOWN, value=value, target=target)
        return translated(target, math.ceil(value * total), STEPS, share=value, count=total)

    return Rule(apply, (target,), STEPS_NOTE)


def metric() -> Rule:
    """The name of a figure → `metric_for_best_model`; of all that tools compute only the accuracy of tokens is counted here."""

    def apply(source: Source, key: str) -> Carried:
        name = source.get(key)
        if isinstance(name, str) and name.removeprefix("eval_") == "mean_token_accuracy":  # TRL's name for it
            return translated("metric_for_best_model", "token_accuracy", FIGURE)
        return take("metric_for_best_model").apply(source, key)

    return Rule(apply, ("metric_for_best_model",))


def save_strategy() -> Rule:
    """Checkpoints come every `save_steps` here, and after every epoch where the best of them is looked for."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        is_same = value == "epoch" and is_on(source.get("load_best_model_at_end"))
        return nothing() if value in (None, "steps") or is_same else lost(SAVING)

    return Rule(apply, (), SAVING)


def settled(
    rows: Sequence[ImportRow], assumed: Sequence[ImportRow], tool: Tool, values: dict[str, Any]
) -> tuple[tuple[ImportRow, ...], tuple[ImportRow, ...]]:
    """Both once more, and `values` changed, so that what is evaluated when fits together.

    Another tool takes its rows for evaluation from places that are not known here, or has none either: then nothing is
    evaluated. Where its steps are lost, rows are evaluated once an epoch. Keys of ours are left as they are.
    """
    targets = {
        row.key: rule.targets
        for row in (*rows, *assumed)
        if tool.id not in ("original", "ours") and (rule := tool.rule(row.key))
    }
    if not values.get("val_size") or values.get("eval_strategy", "no") == "no":
        rows = [_without_best(row, values) if _needs_evaluation(row, targets) else row for row in rows]
    asking = [row for row in (*rows, *assumed) if _asks(row, targets)]
    if not values.get("val_size"):
        if any(row.target_key == "eval_strategy" for row in asking):
            for row in asking:
                values.pop(str(row.target_key), None)
            rows = [_without_rows(row) if row in asking else row for row in rows]
            assumed = [row for row in assumed if row not in asking]
        return tuple(rows), tuple(assumed)
    are_steps_lost = any(row.outcome == "not_supported" and "eval_steps" in targets.get(row.key, ()) for row in rows)
    if values.get("eval_strategy") == "steps" and are_steps_lost and "eval_steps" not in values:
        return tuple(_each_epoch(row, targets, values) for row in rows), tuple(
            _each_epoch(row, targets, values) for row in assumed
        )
    return tuple(rows), tuple(assumed)


def _asks(row: ImportRow, targets: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether another tool's key asks for evaluation."""
    is_asked = row.target_key == "eval_steps" or (row.target_key == "eval_strategy" and row.target_value != "no")
    return is_asked and row.key in targets


def _needs_evaluation(row: ImportRow, targets: Mapping[str, tuple[str, ...]]) -> bool:
    return row.key in targets and row.target_key in NEED_EVALUATION and bool(row.target_value)


def _without_best(row: ImportRow, values: dict[str, Any]) -> ImportRow:
    values.pop(str(row.target_key), None)
    return replace(row, outcome="not_supported", target_key=None, target_value=None, message=Message(NO_BEST))


def _without_rows(row: ImportRow) -> ImportRow:
    return replace(row, outcome="not_supported", target_key=None, target_value=None, message=Message(NO_ROWS))


def _each_epoch(row: ImportRow, targets: Mapping[str, tuple[str, ...]], values: dict[str, Any]) -> ImportRow:
    if row.target_key != "eval_strategy" or row.key not in targets:
        return row
    values["eval_strategy"] = "epoch"
    message = Message(EACH_EPOCH, {"target": "eval_strategy", "ours": "epoch"})
    return replace(row, outcome="translated", target_value="epoch", message=message)
