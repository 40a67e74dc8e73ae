"""Rules about the adapter: lists, expressions, patterns, scale, start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from lora_backend.config.findings import Finding, Fix, shorten
from lora_backend.config.fix_offers import drop, every_block, remove, shift_by_one
from lora_backend.config.patch import Patch
from lora_backend.config.rules.base import ConfigView, KeyRule
from lora_backend.config.rules.expression_keys import FORMS, MANY_PATTERNS, PATTERNS, expressions_of
from lora_backend.config.schema import KEYS
from lora_backend.expressions.matching import KEY, WHOLE
from lora_backend.i18n import N_, Message

SCALES = (1 / 8, 8)
"""Between these alpha / r is usual: 16/64 (QLoRA's paper) to 4 times the rank, with room on both sides."""
MANY_LAYERS = 8
"""A list from 1 to at least this many is rather every block, counted from one, than a choice."""


def _lists(config: ConfigView) -> Iterator[Finding]:
    for key, value in config.values.items():
        if key in config.invalid or key not in KEYS or not isinstance(value, list):
            continue
        if not value:
            yield config.finding(
                "error" if key in ("target_modules", "target_layers") else "warning",  # nothing would train
                "empty_list",
                key,
                Message(N_("`{key}` is an empty list."), {"key": key}),
                Message(N_("Give at least one entry, or remove the line."), {}),
                every_block() if key == "target_layers" else remove(key),
            )
        once = list(dict.fromkeys(value))
        repeated = sorted(shorten(text) for text, count in Counter(map(str, value)).items() if count > 1)
        if repeated:
            yield config.finding(
                "warning",
                "repeated_entry",
                key,
                Message(N_("`{key}` names {entries} more than once."), {"key": key, "entries": ", ".join(repeated)}),
                Message(N_("Keep each entry once.")),
                Fix(Patch({key: once}), Message(N_("Keep each entry once: {entries}"), {"entries": shorten(once)})),
            )


def _expressions(config: ConfigView) -> Iterator[Finding]:
    """PEFT reads a single target, and the keys of both patterns, as regular expressions."""
    if config.expressions is None:
        return
    for key in ("target_modules", *PATTERNS):
        for pattern in expressions_of(config, key):
            alone, as_used = (config.expressions.fault(form, pattern) for form in (WHOLE, FORMS[key]))
            if alone or as_used:
                values = {"key": key, "pattern": shorten(pattern), "reason": alone or as_used}
                yield config.finding(
                    "error",
                    "no_expression",
                    key,
                    Message(N_("`{key}` holds {pattern}, which is not a regular expression: {reason}."), values),
                    Message(
                        N_("Close every bracket that it opens, or name modules by the endings of their names."), values
                    ),
                )


def _shadowed(config: ConfigView) -> Iterator[Finding]:
    """The first pattern that matches counts, so a name behind a wider pattern is never reached."""
    ask = config.expressions
    if ask is None:
        return
    for key in PATTERNS:
        patterns: dict[str, Any] = {} if key in config.invalid else config.get(key) or {}
        names = list(patterns)[:MANY_PATTERNS]
        for place, name in enumerate(names):
            earlier = next((other for other in names[:place] if ask.matches(KEY, other, name)), None)
            if earlier is not None:
                values = {"key": key, "name": name, "earlier": earlier}
                yield config.finding(
                    "warning",
                    "shadowed_pattern",
                    key,
                    Message(N_("`{key}`: {name} is never reached: {earlier} comes before it and matches too."), values),
                    Message(N_("Put {name} before {earlier}."), values),
                    Fix(
                        Patch({key: {name: patterns[name], **{other: value for other, value in patterns.items() if other != name}}}),
                        Message(N_("Move {name} to the front"), values),
                    ),
                )  # fmt: skip


def _scale(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("r", "alpha", "use_rslora"):
        return
    rank, alpha = config.get("r"), config.get("alpha")
    scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
    if not SCALES[0] <= scale <= SCALES[1]:
        usual = round(2 * rank**0.5) if config.get("use_rslora") else 2 * rank
        values = {"alpha": alpha, "r": rank, "scale": f"{scale:.3g}", "usual": usual}
        yield config.finding(
            "warning",
            "unusual_scale",
            "alpha" if "alpha" in config.values else "r",
            Message(N_("`alpha` {alpha} with `r` {r} scales the adapter by {scale}, far from the usual 1 to 2."), values),
            Message(N_("Set `alpha: {usual}`, or lower the learning rate to match."), values),
            config.change({"alpha": usual}),
        )  # fmt: skip


def _layers(config: ConfigView) -> Iterator[Finding]:
    layers = config.get("target_layers") if config.has_good("target_layers") else None
    if layers and len(layers) >= MANY_LAYERS and layers == list(range(1, len(layers) + 1)):
        values = {"last": layers[-1], "before": layers[-1] - 1}
        yield config.finding(
            "warning",
            "layers_from_one",
            "target_layers",
            Message(N_("`target_layers` lists 1 to {last}; blocks are counted from 0, so the first one gets no adapter."), values),
            Message(N_("Write 0 to {before}, or remove the line for every block."), values),
            shift_by_one(layers),
            every_block(),
        )  # fmt: skip


def _start(config: ConfigView) -> Iterator[Finding]:
    if config.has_good("init_lora_weights") and config.get("init_lora_weights") is False:
        yield config.finding(
            "warning",
            "random_start",
            "init_lora_weights",
            Message(N_("`init_lora_weights: false` starts from random matrices, so the model is worse before the first step; PEFT means it for tests.")),
            Message(N_("Set `init_lora_weights: true`.")),
            config.change({"init_lora_weights": True}),
        )  # fmt: skip


def _odd_ranks(config: ConfigView) -> Iterator[Finding]:
    """PEFT halves the rank for an orthogonal start, and refuses one that has no half."""
    if not config.has_good("init_lora_weights", "r", "rank_pattern") or config.get("init_lora_weights") != "orthogonal":
        return
    pattern = config.get("rank_pattern") or {}
    odd = [rank for rank in (config.get("r"), *pattern.values()) if rank % 2]
    if odd:
        even = {"r": config.get("r") + config.get("r") % 2}
        if pattern:
            even["rank_pattern"] = {name: rank + rank % 2 for name, rank in pattern.items()}
        values = {"ranks": ", ".join(map(str, dict.fromkeys(odd)))}
        yield config.finding(
            "error",
            "odd_rank",
            "r" if config.get("r") % 2 else "rank_pattern",
            Message(N_("`init_lora_weights: orthogonal` needs even ranks, but there is {ranks}."), values),
            Message(N_("Set `init_lora_weights: true`, or even ranks.")),
            config.change({"init_lora_weights": True}),
            config.change({key: value for key, value in even.items() if value != config.get(key)}),
        )


def _bias(config: ConfigView) -> Iterator[Finding]:
    if config.has_good("bias") and config.get("bias") != "none":
        yield config.finding(
            "hint",
            "bias_changes_base",
            "bias",
            Message(N_("`bias: {bias}` trains biases of the base model: with the adapter switched off it answers differently than before."), {"bias": config.get("bias")}),
            Message(N_("Set `bias: none` if the base model must stay as it is.")),
            config.change({"bias": "none"}),
        )  # fmt: skip


def _twice(config: ConfigView) -> Iterator[Finding]:
    targets = config.get("target_modules")
    if not config.has_good("target_modules", "modules_to_save") or not isinstance(targets, list):
        return
    both = [name for name in config.get("modules_to_save") or [] if name in targets]
    if both:
        values = {"names": ", ".join(dict.fromkeys(both))}
        whole = [name for name in config.get("modules_to_save") if name not in both]
        adapted = [name for name in targets if name not in both]
        yield config.finding(
            "warning",
            "trained_twice",
            "modules_to_save",
            Message(N_("{names} stands in `target_modules` and in `modules_to_save`; what is trained whole needs no adapter."), values),
            Message(N_("Keep it in one of the two.")),
            drop("modules_to_save", both, whole) or remove("modules_to_save"),
            drop("target_modules", both, adapted),
        )  # fmt: skip


def _strict(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("strict_r_check", "check_r_consistency"):
        return
    if config.get("strict_r_check") and not config.get("check_r_consistency"):
        yield config.finding(
            "warning",
            "strict_without_check",
            "strict_r_check",
            Message(N_("`check_r_consistency` is off, but `strict_r_check` checks all the same, and stops the run at a wrong rank.")),
            Message(N_("Set `check_r_consistency: true` as well, so that the config says what happens, or remove `strict_r_check`.")),
            config.change({"check_r_consistency": True}),
            remove("strict_r_check"),
        )  # fmt: skip


RULES: tuple[KeyRule, ...] = (
    _lists,
    _expressions,
    _shadowed,
    _scale,
    _layers,
    _start,
    _odd_ranks,
    _bias,
    _twice,
    _strict,
)
