"""Rules across keys, and against what is known of model and data. Pure: a config and facts in, findings out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_backend.config.findings import Finding, Severity, shorten
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, Message


@dataclass(frozen=True)
class Facts:
    """What is known of model and data; None where nothing is, and then nothing is said about it."""

    num_blocks: int | None = None
    linear_names: tuple[str, ...] = ()
    """Whole names of the model's linear layers inside blocks."""
    linear_modules: tuple[str, ...] | None = None
    """Endings of the names of the model's linear layers (`q_proj`), empty where weights were not there to read."""
    outer_modules: tuple[str, ...] = ()
    """Endings of the names of what an adapter can sit on outside of the blocks (`embed_tokens`, `lm_head`)."""
    has_tokenizer: bool | None = None
    has_chat_template: bool | None = None
    row_format: str | None = None
    """`messages` or `prompt_completion`."""
    problems: tuple[tuple[Severity, str, Message], ...] = ()
    """What stood in the way of finding out: severity, key, sentence."""


@dataclass(frozen=True)
class ConfigView:
    """A config under check: what it says, and on which line."""

    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """The value given, else the default."""
        return self.values[key] if key in self.values else KEYS[key].default

    def finding(self, severity: Severity, code: str, key: str, message: Message, remedy: Message) -> Finding:
        return Finding(severity, code, message, remedy, key, self.lines.get(key))


def across_keys(config: ConfigView, invalid: set[str]) -> Iterator[Finding]:
    """What keys say of each other; keys in `invalid` are left out."""
    yield from _lists(config, invalid)
    yield from _expressions(config, invalid)
    yield from _devices(config, invalid)
    yield from _quantization(config, invalid)
    batch, target = config.get("batch_size"), config.get("target_batch_size")
    if not invalid & {"batch_size", "target_batch_size"} and target is not None and target % batch:
        values = {
            "target": target,
            "batch": batch,
            "below": target // batch * batch or batch,
            "above": -(-target // batch) * batch,
        }
        yield config.finding(
            "error",
            "target_batch_size_no_multiple",
            "target_batch_size",
            Message(
                N_("`target_batch_size` {target} is no multiple of `batch_size` {batch}, so it cannot be reached."),
                values,
            ),
            Message(N_("Set `target_batch_size` to {below} or {above}, or change `batch_size`."), values),
        )
    if (
        not invalid & {"eval_strategy", "val_size"}
        and config.get("eval_strategy") != "no"
        and not config.get("val_size")
    ):
        yield config.finding(
            "error",
            "evaluation_without_data",
            "eval_strategy",
            Message(N_("`eval_strategy` asks for evaluation, but `val_size` is 0, so there are no rows to evaluate.")),
            Message(N_('Set `val_size`, for example to 0.1, or `eval_strategy` to "no".')),
        )
    if not invalid & {"pkg", "version"} and bool(config.get("pkg")) != bool(config.get("version")):
        values = {
            "given": "pkg" if config.get("pkg") else "version",
            "other": "version" if config.get("pkg") else "pkg",
        }
        yield config.finding(
            "warning",
            "incomplete_publication",
            values["given"],
            Message(N_("`{given}` is set and `{other}` is not, so the adapter is not published."), values),
            Message(N_("Set `{other}` as well, or take `{given}` out."), values),
        )


def _devices(config: ConfigView, invalid: set[str]) -> Iterator[Finding]:
    """A map in the config is never planned anew; what steers the planner says nothing without it."""
    if invalid & {"device_map", "use_balanced_device_map"}:
        return
    if config.get("use_balanced_device_map") and config.get("device_map") is not None:
        yield config.finding(
            "warning",
            "device_map_wins",
            "use_balanced_device_map",
            Message(N_("`device_map` is set, so it is used as it is and `use_balanced_device_map` has no effect.")),
            Message(N_("Take one of the two out.")),
        )
    elif not config.get("use_balanced_device_map"):
        for key in ("force_balance", "exclude_cpu", "min_memory_gb"):
            if key not in invalid and config.get(key) != KEYS[key].default:
                yield config.finding(
                    "warning",
                    "no_balancing",
                    key,
                    Message(N_("`{key}` has no effect without `use_balanced_device_map`."), {"key": key}),
                    Message(N_("Set `use_balanced_device_map: true`, or take `{key}` out."), {"key": key}),
                )


def _quantization(config: ConfigView, invalid: set[str]) -> Iterator[Finding]:
    """What PEFT and transformers refuse of a base model in 4 or 8 bits (tried, on their CPU backend)."""
    if "quantization" in invalid or config.get("quantization") is None:
        return
    values = {"quantization": config.get("quantization"), "start": shorten(config.get("init_lora_weights"))}
    if "init_lora_weights" not in invalid and config.get("init_lora_weights") in ("pissa", "orthogonal"):
        yield config.finding(
            "error",
            "start_of_quantized",
            "init_lora_weights",
            Message(
                N_(
                    "`init_lora_weights: {start}` needs whole weights, which `quantization: {quantization}` takes away."
                ),
                values,
            ),
            Message(N_("Set `init_lora_weights: true`, or take `quantization` out.")),
        )
    places = config.get("device_map") if "device_map" not in invalid else None
    offloaded = {str(place) for place in places.values()} & {"cpu", "disk"} if isinstance(places, Mapping) else set()
    if isinstance(places, Mapping) and offloaded and set(places.values()) != {"cpu"}:
        yield config.finding(
            "error",
            "quantized_offload",
            "device_map",
            Message(
                N_("`device_map` puts modules on {places}, where `quantization: {quantization}` cannot load them."),
                {**values, "places": ", ".join(sorted(offloaded))},
            ),
            Message(N_("Put every module on a GPU, or all of them on the CPU.")),
        )


def _expressions(config: ConfigView, invalid: set[str]) -> Iterator[Finding]:
    """PEFT reads a single target, and the keys of both patterns, as regular expressions."""
    for key in ("target_modules", "rank_pattern", "alpha_pattern"):
        value = None if key in invalid else config.get(key)
        for pattern in [value] if isinstance(value, str) else value if isinstance(value, Mapping) else []:
            try:
                re.compile(pattern)
            except re.error as error:
                values = {"key": key, "pattern": shorten(pattern), "reason": str(error)}
                yield config.finding(
                    "error",
                    "no_expression",
                    key,
                    Message(N_("`{key}` holds {pattern}, which is no regular expression: {reason}."), values),
                    Message(N_("Close what it opens, or name modules by the endings of their names."), values),
                )


def _lists(config: ConfigView, invalid: set[str]) -> Iterator[Finding]:
    for key, value in config.values.items():
        if key in invalid or key not in KEYS or not isinstance(value, list):
            continue
        if not value:
            yield config.finding(
                "error" if key == "target_modules" else "warning",
                "empty_list",
                key,
                Message(N_("`{key}` is an empty list."), {"key": key}),
                Message(N_("Give at least one entry, or take the line out."), {}),
            )
        repeated = sorted(shorten(text) for text, count in Counter(map(str, value)).items() if count > 1)
        if repeated:
            yield config.finding(
                "warning",
                "repeated_entry",
                key,
                Message(N_("`{key}` names {entries} more than once."), {"key": key, "entries": ", ".join(repeated)}),
                Message(N_("Keep each entry once.")),
            )


def against_facts(config: ConfigView, facts: Facts, invalid: set[str]) -> Iterator[Finding]:
    """What model and data say of the config; keys in `invalid` are left out."""
    for problem_severity, key, message in facts.problems:
        remedy = Message(N_("Change `{key}`, or put the file where it points."), {"key": key})
        yield config.finding(problem_severity, f"{key}_unusable", key, message, remedy)
    layers = config.get("target_layers")
    if facts.num_blocks and layers and "target_layers" not in invalid:
        beyond = [index for index in layers if index >= facts.num_blocks]
        if beyond:
            values = {"layers": ", ".join(map(str, beyond)), "last": facts.num_blocks - 1, "count": facts.num_blocks}
            yield config.finding(
                "error",
                "layer_beyond_model",
                "target_layers",
                Message(
                    N_("`target_layers` names {layers}, but the model has {count} blocks, numbered 0 to {last}."),
                    values,
                ),
                Message(N_("Keep to 0 to {last}; blocks are counted from 0."), values),
            )
    targets = config.get("target_modules")
    if facts.linear_modules and isinstance(targets, list) and "target_modules" not in invalid:
        known = {*facts.linear_modules, *facts.outer_modules}
        unmatched = [t for t in targets if t.rsplit(".", 1)[-1] not in known]
        if unmatched:
            severity: Severity = "error" if len(unmatched) == len(targets) else "warning"
            values = {"names": ", ".join(unmatched), "known": ", ".join(facts.linear_modules)}
            yield config.finding(
                severity,
                "unmatched_target",
                "target_modules",
                Message(N_("`target_modules` names {names}, which the model does not have."), values),
                Message(N_("The model's linear layers are: {known}."), values),
            )
    yield from _quantized_whole(config, facts, invalid)
    if facts.linear_names and isinstance(targets, str) and "target_modules" not in invalid:
        yield from _expression_without_match(config, targets, facts)
    if facts.has_tokenizer is False:
        yield config.finding(
            "error" if config.get("dataset") else "warning",
            "no_tokenizer",
            "model_name",
            Message(N_("The model's folder holds no tokenizer, so it cannot be trained on text.")),
            Message(N_("Put the model's tokenizer files (tokenizer.json, tokenizer_config.json) into its folder.")),
        )
    if facts.row_format == "messages" and facts.has_tokenizer and facts.has_chat_template is False:
        yield config.finding(
            "error",
            "no_chat_template",
            "dataset",
            Message(
                N_("The data set holds `messages`, but the model's tokenizer has no chat template to write them with.")
            ),
            Message(N_("Take the instruct variant of the model, or data of `prompt` and `completion`.")),
        )


def _quantized_whole(config: ConfigView, facts: Facts, invalid: set[str]) -> Iterator[Finding]:
    """Weights in 4 or 8 bits have no gradient, so a layer that holds them cannot be trained whole."""
    if invalid & {"quantization", "modules_to_save"} or config.get("quantization") is None:
        return
    quantized = [
        name for name in config.get("modules_to_save") or [] if name.rsplit(".", 1)[-1] in (facts.linear_modules or ())
    ]
    if quantized:
        values = {"names": ", ".join(quantized), "quantization": config.get("quantization")}
        yield config.finding(
            "error",
            "quantized_whole",
            "modules_to_save",
            Message(
                N_("`modules_to_save` names {names}, which `quantization: {quantization}` makes untrainable."), values
            ),
            Message(N_("Name them in `target_modules` instead, or take `quantization` out.")),
        )


def _expression_without_match(config: ConfigView, targets: str, facts: Facts) -> Iterator[Finding]:
    """PEFT holds a text against each module's whole name, so a bare `q_proj` matches none."""
    if targets.lower() == "all-linear":
        return
    try:
        if any(re.fullmatch(targets, name) for name in facts.linear_names):
            return
    except re.error:  # said elsewhere
        return
    values = {"targets": targets, "known": ", ".join(facts.linear_modules or ())}
    if targets in (facts.linear_modules or ()):
        remedy = Message(N_("Write it as a list: `target_modules: [{targets}]`."), values)
    else:
        remedy = Message(N_("The model's linear layers are: {known}."), values)
    message = Message(
        N_("`target_modules` is the expression {targets}, which matches no whole name of a linear layer."), values
    )
    # An expression may mean what lies outside of the blocks, and that is not known here by its whole name.
    severity: Severity = "error" if targets in (facts.linear_modules or ()) else "warning"
    yield config.finding(severity, "unmatched_target", "target_modules", message, remedy)
