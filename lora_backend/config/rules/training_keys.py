"""Rules about the course of training: batches, steps, learning rate, evaluation, publication."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import remove
from lora_backend.config.rules.base import ConfigView, KeyRule
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, Message, Plural

LEARNING_RATES = (5e-6, 5e-3)
"""LoRA's usual rates lie between 1e-5 and 2e-3 (PEFT's and QLoRA's examples); with room on both sides."""
LONG_WARMUP = 0.5


def _batches(config: ConfigView) -> Iterator[Finding]:
    batch, target = config.get("batch_size"), config.get("target_batch_size")
    if config.has_good("batch_size", "target_batch_size") and target is not None and target % batch:
        above = -(-target // batch) * batch
        values = {"target": target, "batch": batch, "below": target // batch * batch or batch, "above": above}
        yield config.finding(
            "error",
            "target_batch_size_no_multiple",
            "target_batch_size",
            Message(
                N_("`target_batch_size` {target} is not a multiple of `batch_size` {batch}, so it cannot be reached."),
                values,
            ),
            Message(N_("Set `target_batch_size` to {below} or {above}, or change `batch_size`."), values),
            config.change({"target_batch_size": above}),
            config.change({"target_batch_size": values["below"]}),
        )


def _learning_rate(config: ConfigView) -> Iterator[Finding]:
    rate = config.get("learning_rate") if config.has_good("learning_rate") else 1e-4
    if not LEARNING_RATES[0] <= rate <= LEARNING_RATES[1]:
        template = N_("`learning_rate` {rate} is far above what LoRA is usually trained with (1e-5 to 2e-3).")
        if rate < LEARNING_RATES[0]:
            template = N_("`learning_rate` {rate} is far below what LoRA is usually trained with (1e-5 to 2e-3).")
        yield config.finding(
            "warning",
            "unusual_learning_rate",
            "learning_rate",
            Message(template, {"rate": rate}),
            Message(N_("Set `learning_rate: 1e-4`, or keep it if it was tried.")),
            config.change({"learning_rate": 1e-4}),
        )


def _epochs(config: ConfigView) -> Iterator[Finding]:
    if config.has_good("num_epochs", "max_steps") and "num_epochs" in config.values and config.get("max_steps"):
        yield config.finding(
            "warning",
            "steps_overrule_epochs",
            "num_epochs",
            Message(N_("`max_steps` is set, so `num_epochs` has no effect.")),
            Message(N_("Remove one of the two.")),
            remove("num_epochs"),
            remove("max_steps"),
        )


def _warmup(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("warmup_ratio", "lr_scheduler_type"):
        return
    ratio, scheduler = config.get("warmup_ratio"), config.get("lr_scheduler_type")
    if scheduler == "constant" and ratio:
        yield config.finding(
            "warning",
            "warmup_ignored",
            "warmup_ratio",
            Message(N_("`lr_scheduler_type: constant` has no warm-up, so `warmup_ratio` has no effect.")),
            Message(N_("Set `lr_scheduler_type: constant_with_warmup`, or remove `warmup_ratio`.")),
            config.change({"lr_scheduler_type": "constant_with_warmup"}),
            remove("warmup_ratio"),
        )
    elif scheduler == "constant_with_warmup" and not ratio:
        yield config.finding(
            "warning",
            "no_warmup",
            "lr_scheduler_type",
            Message(N_("`lr_scheduler_type: constant_with_warmup` has no warm-up while `warmup_ratio` is 0.")),
            Message(N_("Set `warmup_ratio`, for example to 0.03, or `lr_scheduler_type: constant`.")),
            config.change({"warmup_ratio": 0.03}),
            config.change({"lr_scheduler_type": "constant"}),
        )
    elif ratio > LONG_WARMUP:
        values = {"share": f"{ratio:.0%}"}
        yield config.finding(
            "warning",
            "long_warmup",
            "warmup_ratio",
            Message(N_("The learning rate warms up through {share} of training and is hardly ever at its set value."), values),
            Message(N_("Set `warmup_ratio: 0.03`.")),
            config.change({"warmup_ratio": 0.03}),
        )  # fmt: skip


def _evaluation(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("eval_strategy", "val_size"):
        return
    strategy, share = config.get("eval_strategy"), config.get("val_size")
    if strategy != "no" and not share:
        yield config.finding(
            "error",
            "evaluation_without_data",
            "eval_strategy",
            Message(N_("`eval_strategy` asks for evaluation, but `val_size` is 0, so there are no rows to evaluate.")),
            Message(N_('Set `val_size`, for example to 0.1, or `eval_strategy` to "no".')),
            config.change({"val_size": 0.1}),
            config.change({"eval_strategy": "no"}),
        )
    elif share and strategy == "no":
        yield config.finding(
            "warning",
            "rows_held_back_for_nothing",
            "val_size",
            Message(N_("`val_size` holds rows back, but `eval_strategy` is no, so they are neither trained on nor evaluated.")),
            Message(N_("Set `eval_strategy: epoch`, or remove `val_size`.")),
            config.change({"eval_strategy": "epoch"}),
            remove("val_size"),
        )  # fmt: skip
    if config.has_good("eval_steps") and config.get("eval_steps") is not None and strategy != "steps":
        yield config.finding(
            "warning",
            "eval_steps_ignored",
            "eval_steps",
            Message(N_("`eval_steps` has no effect while `eval_strategy` is {strategy}."), {"strategy": strategy}),
            Message(N_("Set `eval_strategy: steps`, or remove `eval_steps`.")),
            config.change({"eval_strategy": "steps"}) if share else None,
            remove("eval_steps"),
        )


def _evaluated_steps(config: ConfigView) -> Iterator[Finding]:
    """What `eval_strategy: steps` means beside the other keys that count steps."""
    if not config.has_good(
        "eval_strategy", "eval_steps", "val_size", "logging_steps", "save_steps", "save_total_limit"
    ):
        return
    if config.get("eval_strategy") != "steps" or not config.get("val_size"):
        return
    every = config.get("eval_steps") or config.get("logging_steps")
    if config.get("eval_steps") is None:
        yield config.finding(
            "hint",
            "eval_steps_not_written",
            "eval_strategy",
            Message(Plural("`eval_steps` is missing, so there is an evaluation every {count} step, as often as `logging_steps` says.", "`eval_steps` is missing, so there is an evaluation every {count} steps, as often as `logging_steps` says."), {"count": every}),
            Message(N_("Set `eval_steps`."), {}),
            config.change({"eval_steps": every}),
        )  # fmt: skip
    yield from evaluations_beside_checkpoints(
        config, every, "eval_steps" if "eval_steps" in config.values else "eval_strategy"
    )


def evaluations_beside_checkpoints(config: ConfigView, every: int, key: str) -> Iterator[Finding]:
    """`every`: steps between two evaluations, as `key` asks for. Only a checkpoint that was evaluated can be the best."""
    save = config.get("save_steps")
    if save % every == 0 or every % save == 0 or config.get("save_total_limit") is None:
        return
    said = {"every": every, "save": save, "both": math.lcm(every, save)}
    near = max(round(save / every), 1) * every
    yield config.finding(
        "warning" if key == "eval_steps" else "hint",
        "evaluation_off_checkpoints",
        key,
        Message(N_("Evaluations come every {every} steps and checkpoints every {save}, so they meet only every {both} steps and at the end. The best checkpoint is kept only among those."), said),
        Message(N_("Set `save_steps: {near}`."), {"near": near}),
        config.change({"save_steps": near}),
        config.change({"eval_steps": save}) if key == "eval_steps" else None,
    )  # fmt: skip


def _seed(config: ConfigView) -> Iterator[Finding]:
    if config.has_good("val_size") and config.get("val_size") and "seed" not in config.values:
        default = KEYS["seed"].default
        yield config.finding(
            "hint",
            "seed_not_written",
            "val_size",
            Message(N_("The seed decides which rows are held back, and it is not in the config."), {}),
            Message(N_("Write `seed: {seed}` (the default), so that the next run holds the same rows back."), {"seed": default}),
            config.change({"seed": default}),
        )  # fmt: skip


def _publication(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("pkg", "version"):
        return
    pkg, version = config.get("pkg"), config.get("version")
    if bool(pkg) != bool(version):
        names: dict[str, Any] = {"given": "pkg" if pkg else "version", "other": "version" if pkg else "pkg"}
        yield config.finding(
            "warning",
            "incomplete_publication",
            names["given"],
            Message(N_("`{given}` is set and `{other}` is not, so the adapter is not published."), names),
            Message(N_("Set `{other}` as well, or remove `{given}`."), names),
            remove(names["given"]),
        )
    elif not pkg:
        for key in ("knowledge_type", "overwrite"):
            if key not in config.invalid and key in config.values and config.get(key) != KEYS[key].default:
                yield config.finding(
                    "warning",
                    "nothing_published",
                    key,
                    Message(N_("`{key}` has no effect without `pkg` and `version`: the adapter stays in its run's folder."), {"key": key}),
                    Message(N_("Set `pkg` and `version`, or remove `{key}`."), {"key": key}),
                    remove(key),
                )  # fmt: skip


def _saving(config: ConfigView) -> Iterator[Finding]:
    """Steps that never come, where the config alone says how many there are."""
    steps = config.get("max_steps") if config.has_good("max_steps") else None
    if steps:
        yield from steps_that_never_come(config, steps)


def steps_that_never_come(config: ConfigView, total: int) -> Iterator[Finding]:
    """`total`: optimizer steps of the whole training."""
    for key in ("save_steps", "eval_steps", "logging_steps"):
        applies = key != "eval_steps" or (config.has_good("eval_strategy") and config.get("eval_strategy") == "steps")
        # A default that is not written was not chosen; at the end the adapter is saved anyway.
        if not applies or key not in config.values or key in config.invalid or not config.get(key):
            continue
        if config.get(key) > total:
            values = {"key": key, "steps": config.get(key), "count": total, "fewer": max(total // 2, 1)}
            yield config.finding(
                "warning",
                "steps_never_come",
                key,
                Message(Plural("`{key}` is {steps}, but training has only {count} step, so it never comes to that.", "`{key}` is {steps}, but training has only {count} steps, so it never comes to that."), values),
                Message(N_("Set `{key}: {fewer}`."), values),
                config.change({key: values["fewer"]}),
            )  # fmt: skip


RULES: tuple[KeyRule, ...] = (
    _batches, _learning_rate, _epochs, _warmup, _evaluation, _evaluated_steps, _seed, _publication, _saving,
)  # fmt: skip
