"""Rules about the adapter: lists, expressions, patterns, scale, start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from lora_backend.config.findings import Finding, Fix, shorten
from lora_backend.config.fix_offers import drop, every_block, remove, shift_by_one
from lora_backend.config.patch import Patch
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, Message

SCALES = (1 / 8, 8)
"""Between these alpha / r is usual: 16/64 (QLoRA's paper) to 4 times the rank, with room on both sides."""
MANY_LAYERS = 8
"""A list from 1 to at least this many is rather every block, counted from one, than a choice."""


EMPTY_LIST = Rule(
    "empty_list",
    "error",
    N_("`{key}` is an empty list."),
    N_("Add at least one entry, or remove the line."),
    broken="target_modules: []",
    fixed="target_modules: [q_proj]",
)

REPEATED_ENTRY = Rule(
    "repeated_entry",
    "warning",
    N_("`{key}` names {entries} more than once."),
    N_("Keep each entry once."),
    broken="target_layers: [1, 1]",
    fixed="target_layers: [1, 2]",
)


def _lists(config: ConfigView) -> Iterator[Finding]:
    for key, value in config.values.items():
        if key in config.invalid or key not in KEYS or not isinstance(value, list):
            continue
        if not value:
            yield EMPTY_LIST.found(
                config,
                key,
                {"key": key},
                every_block() if key == "target_layers" else remove(key),
                severity=None if key in ("target_modules", "target_layers") else "warning",
            )
        if any(isinstance(entry, Mapping) for entry in value):  # `datasets`, which has rules of its own
            continue
        once = list(dict.fromkeys(value))
        repeated = sorted(shorten(text) for text, count in Counter(map(str, value)).items() if count > 1)
        if repeated:
            yield REPEATED_ENTRY.found(
                config,
                key,
                {"key": key, "entries": ", ".join(repeated)},
                Fix(Patch({key: once}), Message(N_("Keep each entry once: {entries}"), {"entries": shorten(once)})),
            )


UNUSUAL_SCALE = Rule(
    "unusual_scale",
    "warning",
    N_("`alpha` {alpha} with `r` {r} scales the adapter by {scale}, far from the usual 1 to 2."),
    N_("Set `alpha: {usual}`, or lower the learning rate to match."),
    broken="r: 8\nalpha: 128",
    fixed="r: 16\nalpha: 128",
)


def _scale(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("r", "alpha", "use_rslora"):
        return
    rank, alpha = config.get("r"), config.get("alpha")
    scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
    if not SCALES[0] <= scale <= SCALES[1]:
        usual = round(2 * rank**0.5) if config.get("use_rslora") else 2 * rank
        values = {"alpha": alpha, "r": rank, "scale": f"{scale:.3g}", "usual": usual}
        yield UNUSUAL_SCALE.found(
            config, "alpha" if "alpha" in config.values else "r", values, config.change({"alpha": usual})
        )


LAYERS_FROM_ONE = Rule(
    "layers_from_one",
    "warning",
    N_("`target_layers` lists 1 to {last}; blocks are counted from 0, so the first one gets no adapter."),
    N_("Write 0 to {before}, or remove the line for every block."),
    broken="target_layers: [1, 2, 3, 4, 5, 6, 7, 8]",
    fixed="target_layers: [0, 1, 2, 3, 4, 5, 6, 7]",
)


def _layers(config: ConfigView) -> Iterator[Finding]:
    layers = config.get("target_layers") if config.has_good("target_layers") else None
    if layers and len(layers) >= MANY_LAYERS and layers == list(range(1, len(layers) + 1)):
        values = {"last": layers[-1], "before": layers[-1] - 1}
        yield LAYERS_FROM_ONE.found(config, "target_layers", values, shift_by_one(layers), every_block())


RANDOM_START = Rule(
    "random_start",
    "warning",
    N_(
        "`init_lora_weights: false` starts from random matrices, so the model is worse before the first step; PEFT offers it only for tests."
    ),
    N_("Set `init_lora_weights: true`."),
    broken="init_lora_weights: false",
    fixed="init_lora_weights: true",
)


def _start(config: ConfigView) -> Iterator[Finding]:
    if config.has_good("init_lora_weights") and config.get("init_lora_weights") is False:
        yield RANDOM_START.found(config, "init_lora_weights", None, config.change({"init_lora_weights": True}))


ODD_RANK = Rule(
    "odd_rank",
    "error",
    N_("`init_lora_weights: orthogonal` needs even ranks, but the config has {ranks}."),
    N_("Set `init_lora_weights: true`, or even ranks."),
    broken="r: 3\nalpha: 3\ninit_lora_weights: orthogonal",
    fixed="r: 4\nalpha: 4\ninit_lora_weights: orthogonal",
)


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
        yield ODD_RANK.found(
            config,
            "r" if config.get("r") % 2 else "rank_pattern",
            values,
            config.change({"init_lora_weights": True}),
            config.change({key: value for key, value in even.items() if value != config.get(key)}),
        )


BIAS_CHANGES_BASE = Rule(
    "bias_changes_base",
    "hint",
    N_(
        "`bias: {bias}` trains biases of the base model: even with the adapter off, it answers differently than before."
    ),
    N_("Set `bias: none` if the base model must stay as it is."),
    broken="bias: all",
    fixed="bias: none",
)


def _bias(config: ConfigView) -> Iterator[Finding]:
    if config.has_good("bias") and config.get("bias") != "none":
        yield BIAS_CHANGES_BASE.found(config, "bias", {"bias": config.get("bias")}, config.change({"bias": "none"}))


TRAINED_TWICE = Rule(
    "trained_twice",
    "warning",
    N_("{names} is in both `target_modules` and `modules_to_save`; a module that is trained whole needs no adapter."),
    N_("Keep it in one of the two."),
    broken="target_modules: [q_proj, lm_head]\nmodules_to_save: [lm_head]",
    fixed="target_modules: [q_proj]\nmodules_to_save: [lm_head]",
)


def _twice(config: ConfigView) -> Iterator[Finding]:
    targets = config.get("target_modules")
    if not config.has_good("target_modules", "modules_to_save") or not isinstance(targets, list):
        return
    both = [name for name in config.get("modules_to_save") or [] if name in targets]
    if both:
        values = {"names": ", ".join(dict.fromkeys(both))}
        whole = [name for name in config.get("modules_to_save") if name not in both]
        adapted = [name for name in targets if name not in both]
        yield TRAINED_TWICE.found(
            config,
            "modules_to_save",
            values,
            drop("modules_to_save", both, whole) or remove("modules_to_save"),
            drop("target_modules", both, adapted),
        )


STRICT_WITHOUT_CHECK = Rule(
    "strict_without_check",
    "warning",
    N_("`check_r_consistency` is off, but `strict_r_check` checks all the same, and stops the run at a wrong rank."),
    N_("Set `check_r_consistency: true` as well, so that the config says what happens, or remove `strict_r_check`."),
    broken="strict_r_check: true",
    fixed="strict_r_check: true\ncheck_r_consistency: true",
)


def _strict(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("strict_r_check", "check_r_consistency"):
        return
    if config.get("strict_r_check") and not config.get("check_r_consistency"):
        yield STRICT_WITHOUT_CHECK.found(
            config, "strict_r_check", None, config.change({"check_r_consistency": True}), remove("strict_r_check")
        )


RULES = (
    EMPTY_LIST,
    REPEATED_ENTRY,
    UNUSUAL_SCALE,
    LAYERS_FROM_ONE,
    RANDOM_START,
    ODD_RANK,
    BIAS_CHANGES_BASE,
    TRAINED_TWICE,
    STRICT_WITHOUT_CHECK,
)
CHECKS: tuple[KeyCheck, ...] = (
    _lists,
    _scale,
    _layers,
    _start,
    _odd_ranks,
    _bias,
    _twice,
    _strict,
)
