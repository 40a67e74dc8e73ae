"""Rules about evaluation: rows that are held out, when they are evaluated, and beside which checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import remove
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, Plural

EVALUATION_WITHOUT_DATA = Rule(
    "evaluation_without_data",
    "error",
    N_(
        "`eval_strategy` asks for evaluation, but `val_size` is 0 and there is no `eval_dataset`, so there are no rows to evaluate."
    ),
    N_('Set `val_size`, for example to 0.1, or name an `eval_dataset`, or set `eval_strategy` to "no".'),
    broken="eval_strategy: epoch",
    fixed="eval_strategy: epoch\nval_size: 0.1\nseed: 42",
)

EVAL_STEPS_IGNORED = Rule(
    "eval_steps_ignored",
    "warning",
    N_("`eval_steps` has no effect while `eval_strategy` is {strategy}."),
    N_("Set `eval_strategy: steps`, or remove `eval_steps`."),
    broken="eval_steps: 10",
    fixed="eval_steps: 10\neval_strategy: steps\nval_size: 0.1\nseed: 42",
)

ROWS_HELD_BACK_FOR_NOTHING = Rule(
    "rows_held_back_for_nothing",
    "warning",
    N_("`val_size` holds out rows, but `eval_strategy` is no, so they are neither trained on nor evaluated."),
    N_("Set `eval_strategy: epoch`, or remove `val_size`."),
    broken="val_size: 0.1\nseed: 42",
    fixed="val_size: 0.1\nseed: 42\neval_strategy: epoch",
)


def _evaluation(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("eval_strategy", "val_size", "eval_dataset"):
        return
    strategy, share = config.get("eval_strategy"), config.get("val_size")
    has_rows = bool(share or config.get("eval_dataset"))
    if strategy != "no" and not has_rows:
        yield EVALUATION_WITHOUT_DATA.found(
            config, "eval_strategy", None, config.change({"val_size": 0.1}), config.change({"eval_strategy": "no"})
        )
    elif share and strategy == "no":
        yield ROWS_HELD_BACK_FOR_NOTHING.found(
            config, "val_size", None, config.change({"eval_strategy": "epoch"}), remove("val_size")
        )
    if config.has_good("eval_steps") and config.get("eval_steps") is not None and strategy != "steps":
        yield EVAL_STEPS_IGNORED.found(
            config,
            "eval_steps",
            {"strategy": strategy},
            config.change({"eval_strategy": "steps"}) if has_rows else None,
            remove("eval_steps"),
        )


EVAL_STEPS_NOT_WRITTEN = Rule(
    "eval_steps_not_written",
    "hint",
    Plural(
        "`eval_steps` is missing, so evaluation runs every {count} step, as set by `logging_steps`.",
        "`eval_steps` is missing, so evaluation runs every {count} steps, as set by `logging_steps`.",
    ),
    N_("Set `eval_steps`."),
    broken="eval_strategy: steps\nval_size: 0.1\nseed: 42",
    fixed="eval_strategy: steps\neval_steps: 10\nval_size: 0.1\nseed: 42",
)


def _evaluated_steps(config: ConfigView) -> Iterator[Finding]:
    """What `eval_strategy: steps` means beside the other keys that count steps."""
    if not config.has_good(
        "eval_strategy", "eval_steps", "val_size", "eval_dataset", "logging_steps", "save_steps", "save_total_limit"
    ):
        return
    has_rows = config.get("val_size") or config.get("eval_dataset")
    if config.get("eval_strategy") != "steps" or not has_rows:
        return
    every = config.get("eval_steps") or config.get("logging_steps")
    if config.get("eval_steps") is None:
        yield EVAL_STEPS_NOT_WRITTEN.found(
            config, "eval_strategy", {"count": every}, config.change({"eval_steps": every})
        )
    yield from evaluations_beside_checkpoints(
        config, every, "eval_steps" if "eval_steps" in config.values else "eval_strategy"
    )


EVALUATION_OFF_CHECKPOINTS = Rule(
    "evaluation_off_checkpoints",
    "warning",
    N_(
        "Evaluations run every {every} steps and checkpoints are saved every {save}, so they coincide only every {both} steps and at the end. Only those checkpoints can be kept as the best."
    ),
    N_("Set `save_steps: {near}`."),
    broken="eval_strategy: steps\neval_steps: 20\nsave_steps: 30\nval_size: 0.1\nseed: 42",
    fixed="eval_strategy: steps\neval_steps: 20\nsave_steps: 40\nval_size: 0.1\nseed: 42",
)


def evaluations_beside_checkpoints(config: ConfigView, every: int, key: str) -> Iterator[Finding]:
    """`every`: steps between two evaluations, as `key` asks for. Only a checkpoint that was evaluated can be the best."""
    save = config.get("save_steps")
    if config.get("load_best_model_at_end") is True:  # saves after every epoch, or is refused (`best_keys`)
        return
    if save % every == 0 or every % save == 0 or config.get("save_total_limit") is None:
        return
    said = {"every": every, "save": save, "both": math.lcm(every, save)}
    near = max(round(save / every), 1) * every
    yield EVALUATION_OFF_CHECKPOINTS.found(
        config,
        key,
        said | {"near": near},
        config.change({"save_steps": near}),
        config.change({"eval_steps": save}) if key == "eval_steps" else None,
        severity=None if key == "eval_steps" else "hint",
    )


SAMPLES_WITHOUT_QUESTIONS = Rule(
    "samples_without_questions",
    "warning",
    N_("`sample_every_steps` has no effect without `questions`, because there is nothing to answer."),
    N_("Name a file of `questions`, or remove `sample_every_steps`."),
    broken="sample_every_steps: 50",
    fixed="sample_every_steps: 50\nquestions: q.jsonl",
)


def _samples(config: ConfigView) -> Iterator[Finding]:
    is_asked = config.has_good("sample_every_steps", "questions") and config.get("sample_every_steps")
    if is_asked and not config.get("questions"):
        yield SAMPLES_WITHOUT_QUESTIONS.found(config, "sample_every_steps", None, remove("sample_every_steps"))


SEED_NOT_WRITTEN = Rule(
    "seed_not_written",
    "hint",
    N_("The seed decides which rows are held out, but it is not in the config."),
    N_("Write `seed: {seed}` (the default), so that the next run holds out the same rows."),
    broken="val_size: 0.1\neval_strategy: epoch",
    fixed="val_size: 0.1\neval_strategy: epoch\nseed: 42",
)


def _seed(config: ConfigView) -> Iterator[Finding]:
    if config.has_good("val_size") and config.get("val_size") and "seed" not in config.values:
        default = KEYS["seed"].default
        yield SEED_NOT_WRITTEN.found(config, "val_size", {"seed": default}, config.change({"seed": default}))


RULES = (
    EVALUATION_WITHOUT_DATA,
    EVAL_STEPS_IGNORED,
    ROWS_HELD_BACK_FOR_NOTHING,
    EVAL_STEPS_NOT_WRITTEN,
    EVALUATION_OFF_CHECKPOINTS,
    SAMPLES_WITHOUT_QUESTIONS,
    SEED_NOT_WRITTEN,
)
CHECKS: tuple[KeyCheck, ...] = (_evaluation, _evaluated_steps, _samples, _seed)
