"""Rules about the best checkpoint: what tells it, and when a run stops because no better one comes."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.best_figure import LOSS, BestBy
from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import remove
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.i18n import N_

_NEED_EVALUATION = ("load_best_model_at_end", "early_stopping_patience")
_GOOD = ("eval_strategy", "val_size", "eval_dataset")

BEST_WITHOUT_EVALUATION = Rule(
    "best_without_evaluation",
    "error",
    N_("`{key}` depends on evaluations, but `eval_strategy` is no, so there are none."),
    N_("Set `eval_strategy: epoch`, and hold out rows with `val_size` or name an `eval_dataset`; or remove `{key}`."),
    broken="load_best_model_at_end: true",
    fixed="load_best_model_at_end: true\neval_strategy: epoch\nval_size: 0.1\nseed: 42",
)

SAVE_STEPS_BESIDE_EVALUATIONS = Rule(
    "save_steps_beside_evaluations",
    "error",
    N_(
        "`load_best_model_at_end` needs every checkpoint to be evaluated, so `save_steps` must be a multiple of the steps between evaluations; {save} is not a multiple of {every}."
    ),
    N_("Set `save_steps: {near}`."),
    broken="load_best_model_at_end: true\neval_strategy: steps\neval_steps: 20\nsave_steps: 10\nval_size: 0.1\nseed: 42",
    fixed="load_best_model_at_end: true\neval_strategy: steps\neval_steps: 20\nsave_steps: 20\nval_size: 0.1\nseed: 42",
)


def _evaluated(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good(*_GOOD, "eval_steps", "logging_steps", "save_steps"):
        return
    strategy = config.get("eval_strategy")
    has_rows = bool(config.get("val_size") or config.get("eval_dataset"))
    for key in _NEED_EVALUATION:
        if config.has_good(key) and config.get(key) and strategy == "no":
            asked = {"eval_strategy": "epoch", "load_best_model_at_end": True} | ({} if has_rows else {"val_size": 0.1})
            yield BEST_WITHOUT_EVALUATION.found(config, key, {"key": key}, config.change(asked), remove(key))
    if not config.has_good("load_best_model_at_end") or not config.get("load_best_model_at_end"):
        return
    every, save = config.get("eval_steps") or config.get("logging_steps"), config.get("save_steps")
    if strategy == "steps" and save % every:
        near = max(round(save / every), 1) * every
        values = {"save": save, "every": every, "near": near}
        yield SAVE_STEPS_BESIDE_EVALUATIONS.found(
            config, "load_best_model_at_end", values, config.change({"save_steps": near})
        )


LAST_ADAPTER_AFTER_EARLY_STOP = Rule(
    "last_adapter_after_early_stop",
    "warning",
    N_(
        "`early_stopping_patience` ends the run a few evaluations after its best one; without `load_best_model_at_end` it ends with the adapter of the last step."
    ),
    N_("Set `load_best_model_at_end: true`."),
    broken="early_stopping_patience: 3\neval_strategy: epoch\nval_size: 0.1\nseed: 42",
    fixed="early_stopping_patience: 3\nload_best_model_at_end: true\neval_strategy: epoch\nval_size: 0.1\nseed: 42",
)


def _last_adapter(config: ConfigView) -> Iterator[Finding]:
    keys = ("early_stopping_patience", "load_best_model_at_end", *_GOOD)
    if not config.has_good(*keys) or config.get("eval_strategy") == "no":
        return
    if config.get("early_stopping_patience") and not config.get("load_best_model_at_end"):
        fix = config.change({"load_best_model_at_end": True})
        yield LAST_ADAPTER_AFTER_EARLY_STOP.found(config, "early_stopping_patience", None, fix)


THRESHOLD_IGNORED = Rule(
    "threshold_ignored",
    "warning",
    N_("`early_stopping_threshold` has no effect without `early_stopping_patience`."),
    N_("Set `early_stopping_patience`, or remove `early_stopping_threshold`."),
    broken="early_stopping_threshold: 0.01",
    fixed="early_stopping_threshold: 0.01\nearly_stopping_patience: 3\nload_best_model_at_end: true\neval_strategy: epoch\nval_size: 0.1\nseed: 42",
)


def _threshold(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("early_stopping_threshold", "early_stopping_patience"):
        return
    if config.get("early_stopping_threshold") and config.get("early_stopping_patience") is None:
        yield THRESHOLD_IGNORED.found(
            config,
            "early_stopping_threshold",
            None,
            remove("early_stopping_threshold"),
        )


WORST_TAKEN_FOR_BEST = Rule(
    "worst_taken_for_best",
    "warning",
    N_("`greater_is_better: {value}` would pick the worst evaluation as the best, because the metric is the {figure}."),
    N_("Remove `greater_is_better`."),
    broken="greater_is_better: true",
    fixed="greater_is_better: false",
)


def _direction(config: ConfigView) -> Iterator[Finding]:
    greater = config.get("greater_is_better")
    if not config.has_good("greater_is_better", "metric_for_best_model") or greater is None:
        return
    by = BestBy.of(config.values)
    if greater != (by.column != LOSS):
        values = {"value": str(greater).lower(), "figure": by.name}
        yield WORST_TAKEN_FOR_BEST.found(config, "greater_is_better", values, remove("greater_is_better"))


RULES = (
    BEST_WITHOUT_EVALUATION,
    SAVE_STEPS_BESIDE_EVALUATIONS,
    LAST_ADAPTER_AFTER_EARLY_STOP,
    THRESHOLD_IGNORED,
    WORST_TAKEN_FOR_BEST,
)
CHECKS: tuple[KeyCheck, ...] = (_evaluated, _last_adapter, _threshold, _direction)
