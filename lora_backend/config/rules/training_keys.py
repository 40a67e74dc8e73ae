"""Rules about the course of training: batches, steps, learning rate."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import remove
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.i18n import N_, Plural

LEARNING_RATES = (5e-6, 5e-3)
"""LoRA's usual rates lie between 1e-5 and 2e-3 (PEFT's and QLoRA's examples); with room on both sides."""
LONGEST_WARMUP = 0.5


TARGET_BATCH_SIZE_NO_MULTIPLE = Rule(
    "target_batch_size_no_multiple",
    "error",
    N_("`target_batch_size` {target} is not a multiple of `batch_size` {batch}, so it cannot be reached."),
    N_("Set `target_batch_size` to {below} or {above}, or change `batch_size`."),
    broken="batch_size: 4\ntarget_batch_size: 6",
    fixed="batch_size: 4\ntarget_batch_size: 8",
)


def _batches(config: ConfigView) -> Iterator[Finding]:
    batch, target = config.get("batch_size"), config.get("target_batch_size")
    if config.has_good("batch_size", "target_batch_size") and target is not None and target % batch:
        above = -(-target // batch) * batch
        values = {"target": target, "batch": batch, "below": target // batch * batch or batch, "above": above}
        yield TARGET_BATCH_SIZE_NO_MULTIPLE.found(
            config,
            "target_batch_size",
            values,
            config.change({"target_batch_size": above}),
            config.change({"target_batch_size": values["below"]}),
        )


UNUSUAL_LEARNING_RATE = Rule(
    "unusual_learning_rate",
    "warning",
    N_("`learning_rate` {rate} is far above the usual range for LoRA (1e-5 to 2e-3)."),
    N_("Set `learning_rate: 1e-4`, or keep it if you have tried it."),
    broken="learning_rate: 1e-6",
    fixed="learning_rate: 1e-5",
)


def _learning_rate(config: ConfigView) -> Iterator[Finding]:
    rate = config.get("learning_rate") if config.has_good("learning_rate") else 1e-4
    if not LEARNING_RATES[0] <= rate <= LEARNING_RATES[1]:
        below = N_("`learning_rate` {rate} is far below the usual range for LoRA (1e-5 to 2e-3).")
        yield UNUSUAL_LEARNING_RATE.found(
            config,
            "learning_rate",
            {"rate": rate},
            config.change({"learning_rate": 1e-4}),
            sentence=below if rate < LEARNING_RATES[0] else None,
        )


STEPS_OVERRULE_EPOCHS = Rule(
    "steps_overrule_epochs",
    "warning",
    N_("`max_steps` is set, so `num_epochs` has no effect."),
    N_("Remove one of the two."),
    broken="max_steps: 100\nnum_epochs: 3",
    fixed="max_steps: 100",
)


def _epochs(config: ConfigView) -> Iterator[Finding]:
    if config.has_good("num_epochs", "max_steps") and "num_epochs" in config.values and config.get("max_steps"):
        yield STEPS_OVERRULE_EPOCHS.found(config, "num_epochs", None, remove("num_epochs"), remove("max_steps"))


WARMUP_IGNORED = Rule(
    "warmup_ignored",
    "warning",
    N_("`lr_scheduler_type: constant` has no warm-up, so `warmup_ratio` has no effect."),
    N_("Set `lr_scheduler_type: constant_with_warmup`, or remove `warmup_ratio`."),
    broken="lr_scheduler_type: constant\nwarmup_ratio: 0.03",
    fixed="lr_scheduler_type: constant_with_warmup\nwarmup_ratio: 0.03",
)

NO_WARMUP = Rule(
    "no_warmup",
    "warning",
    N_("`lr_scheduler_type: constant_with_warmup` has no warm-up while `warmup_ratio` is 0."),
    N_("Set `warmup_ratio`, for example to 0.03, or `lr_scheduler_type: constant`."),
    broken="lr_scheduler_type: constant_with_warmup",
    fixed="lr_scheduler_type: constant",
)

LONG_WARMUP = Rule(
    "long_warmup",
    "warning",
    N_("The learning rate warms up for {share} of training and is hardly ever at its set value."),
    N_("Set `warmup_ratio: 0.03`."),
    broken="warmup_ratio: 0.6",
    fixed="warmup_ratio: 0.5",
)


def _warmup(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("warmup_ratio", "lr_scheduler_type"):
        return
    ratio, scheduler = config.get("warmup_ratio"), config.get("lr_scheduler_type")
    if scheduler == "constant" and ratio:
        yield WARMUP_IGNORED.found(
            config,
            "warmup_ratio",
            None,
            config.change({"lr_scheduler_type": "constant_with_warmup"}),
            remove("warmup_ratio"),
        )
    elif scheduler == "constant_with_warmup" and not ratio:
        yield NO_WARMUP.found(
            config,
            "lr_scheduler_type",
            None,
            config.change({"warmup_ratio": 0.03}),
            config.change({"lr_scheduler_type": "constant"}),
        )
    elif ratio > LONGEST_WARMUP:
        values = {"share": f"{ratio:.0%}"}
        yield LONG_WARMUP.found(config, "warmup_ratio", values, config.change({"warmup_ratio": 0.03}))


def _saving(config: ConfigView) -> Iterator[Finding]:
    """Steps that never come, where the config alone says how many there are."""
    steps = config.get("max_steps") if config.has_good("max_steps") else None
    if steps:
        yield from steps_that_never_come(config, steps)


STEPS_NEVER_COME = Rule(
    "steps_never_come",
    "warning",
    Plural(
        "`{key}` is {steps}, but training has only {count} step, so it never takes effect.",
        "`{key}` is {steps}, but training has only {count} steps, so it never takes effect.",
    ),
    N_("Set `{key}: {fewer}`."),
    broken="max_steps: 100\nsave_steps: 200",
    fixed="max_steps: 100\nsave_steps: 100",
)


def steps_that_never_come(config: ConfigView, total: int) -> Iterator[Finding]:
    """`total`: optimizer steps of the whole training."""
    for key in ("save_steps", "eval_steps", "logging_steps"):
        applies = key != "eval_steps" or (config.has_good("eval_strategy") and config.get("eval_strategy") == "steps")
        # A default that is not written was not chosen; at the end the adapter is saved anyway.
        if not applies or key not in config.values or key in config.invalid or not config.get(key):
            continue
        if config.get(key) > total:
            values = {"key": key, "steps": config.get(key), "count": total, "fewer": max(total // 2, 1)}
            yield STEPS_NEVER_COME.found(config, key, values, config.change({key: values["fewer"]}))


RULES = (
    TARGET_BATCH_SIZE_NO_MULTIPLE,
    UNUSUAL_LEARNING_RATE,
    STEPS_OVERRULE_EPOCHS,
    WARMUP_IGNORED,
    NO_WARMUP,
    LONG_WARMUP,
    STEPS_NEVER_COME,
)
CHECKS: tuple[KeyCheck, ...] = (_batches, _learning_rate, _epochs, _warmup, _saving)
