"""Rules that hold the config against its model: blocks, names of modules, positions, tokenizer."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding, Severity
from lora_backend.config.fix_offers import drop, every_block, remove, shift_by_one
from lora_backend.config.key_queries import PATTERN_KEYS
from lora_backend.config.rules.example_facts import LLAMA
from lora_backend.config.rules.expression_keys import expressions_of, is_asked_of_model, names_for
from lora_backend.config.rules.file_rules import UNUSABLE
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts
from lora_backend.expressions.matching import KEY, WHOLE
from lora_backend.i18n import N_, Plural, in_code


def _problems(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    for severity, key, message in facts.problems:
        yield UNUSABLE[key].found(config, key, {"key": key}, severity=severity, sentence=message)


LAYER_BEYOND_MODEL = Rule(
    "layer_beyond_model",
    "error",
    Plural(
        "`target_layers` names {layers}, but the model has {count} block, numbered 0 to {last}.",
        "`target_layers` names {layers}, but the model has {count} blocks, numbered 0 to {last}.",
    ),
    N_("Use 0 to {last}; blocks are numbered from 0."),
    broken="target_layers: [31, 32]",
    fixed="target_layers: [30, 31]",
    facts=LLAMA,
)


def _layers(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    layers = config.get("target_layers")
    if not facts.num_blocks or not layers or not config.has_good("target_layers"):
        return
    beyond = [index for index in layers if index >= facts.num_blocks]
    if beyond:
        values = {"layers": ", ".join(map(str, beyond)), "last": facts.num_blocks - 1, "count": facts.num_blocks}
        kept = [index for index in layers if index < facts.num_blocks]
        from_one = 0 not in layers and max(layers) == facts.num_blocks
        yield LAYER_BEYOND_MODEL.found(
            config,
            "target_layers",
            values,
            drop("target_layers", beyond, kept) or every_block(),
            shift_by_one(layers) if from_one else None,
        )


UNMATCHED_TARGET = Rule(
    "unmatched_target",
    "error",
    N_("`target_modules` names {names}, which the model does not have."),
    N_("The model's linear layers are: {known}."),
    broken="target_modules: [q_porj]",
    fixed="target_modules: [q_proj]",
    facts=LLAMA,
)


def _targets(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    targets = config.get("target_modules")
    linear = _linear_modules(facts)
    if not linear or not isinstance(targets, list) or not config.has_good("target_modules"):
        return
    known = {*linear, *facts.outer_modules}
    unknown = [target for target in targets if target.rsplit(".", 1)[-1] not in known]
    unmatched = unknown if facts.tree is None else [target for target in targets if not facts.tree.has(target)]
    if unmatched:
        # A dotted name may be that of another build of the model; here it is a blocker, with what is near.
        severity: Severity = "error" if len(unknown) == len(targets) == len(unmatched) else "warning"
        values = {"names": ", ".join(unmatched), "known": ", ".join(linear)}
        if _may_have_other_names(facts):
            yield _not_in_files(config, values)
            return
        matched = [target for target in targets if target not in unmatched]
        yield UNMATCHED_TARGET.found(
            config,
            "target_modules",
            values,
            drop("target_modules", unmatched, matched) or config.change({"target_modules": "all-linear"}),
            severity=severity,
        )


def _may_have_other_names(facts: Facts) -> bool:
    """Experts lie in one tensor in memory, by names that the files need not have; the module tree knows them."""
    return facts.tree is None and facts.has_experts is True


def _not_in_files(config: ConfigView, values: dict[str, str]) -> Finding:
    """Nothing is wrong for certain, so there is nothing to fix."""
    return UNMATCHED_TARGET.found(
        config,
        "target_modules",
        values,
        severity="warning",
        sentence=N_(
            "`target_modules` names {names}, which is in none of the model's files. A mixture of experts can have other names once loaded."
        ),
        remedy=N_(
            "Run `plan` to check the names against the loaded model. The linear layers in the files are: {known}."
        ),
    )


def _linear_modules(facts: Facts) -> tuple[str, ...]:
    if facts.tree is None:
        return facts.linear_modules or ()
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in facts.tree.all_linear))


def _expression(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """PEFT holds a text against each module's whole name, so a bare `q_proj` matches none."""
    ask = config.expressions
    if ask is None or not is_asked_of_model(config, "target_modules", facts):
        return
    for targets in expressions_of(config, "target_modules"):
        if not ask.fault(WHOLE, targets) and not ask.matches_any(
            WHOLE, targets, frozenset(names_for("target_modules", facts))
        ):
            yield _unmatched_expression(config, facts, targets)


def _unmatched_expression(config: ConfigView, facts: Facts, targets: str) -> Finding:
    values = {"targets": targets, "known": ", ".join(facts.linear_modules or ())}
    is_ending = targets in (facts.linear_modules or ())
    if not is_ending and _may_have_other_names(facts):
        return _not_in_files(config, {**values, "names": targets})
    message = N_(
        "`target_modules` is the expression {targets}, which does not match the full name of any linear layer."
    )
    as_list = N_("Write it as a list: `target_modules: [{targets}]`.")
    # An expression may mean what lies outside of the blocks, and that is not known here by its whole name.
    severity: Severity = "error" if is_ending else "warning"
    fix = config.change({"target_modules": [targets] if is_ending else "all-linear"})
    return UNMATCHED_TARGET.found(
        config,
        "target_modules",
        values,
        fix,
        severity=severity,
        sentence=message,
        remedy=as_list if is_ending else None,
    )


UNMATCHED_PATTERN = Rule(
    "unmatched_pattern",
    "warning",
    N_("`{key}` contains {patterns}, which matches no layer of the model."),
    N_("The model's linear layers are: {known}."),
    broken="rank_pattern: {k_proj: 8}",
    fixed="rank_pattern: {q_proj: 8}",
    facts=LLAMA,
)


def _patterns(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """A pattern that matches nothing changes nothing, and PEFT says so nowhere."""
    ask = config.expressions
    for key in PATTERN_KEYS:
        if ask is None or _may_have_other_names(facts) or not is_asked_of_model(config, key, facts):
            continue
        patterns = {} if key in config.invalid else config.get(key) or {}
        names = frozenset(names_for(key, facts))
        unmatched = [pattern for pattern in patterns if not ask.matches_any(KEY, pattern, names)]
        if unmatched:
            matched = {name: value for name, value in patterns.items() if name not in unmatched}
            values = {"key": key, "patterns": ", ".join(unmatched), "known": ", ".join(facts.linear_modules or ())}
            yield UNMATCHED_PATTERN.found(config, key, values, drop(key, unmatched, matched) or remove(key))


QUANTIZED_WHOLE = Rule(
    "quantized_whole",
    "error",
    N_("`modules_to_save` names {names}, whose weights are quantized and cannot be trained whole."),
    N_("Name them in `target_modules` instead, or train whole weights."),
    broken="quantization: int8\nmodules_to_save: [q_proj]",
    fixed="quantization: int8\nmodules_to_save: [lm_head]",
    facts=LLAMA,
)


def _quantized_whole(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """Weights in 4 or 8 bits have no gradient, so a layer that holds them cannot be trained whole."""
    stays = facts.quantized is not None and facts.quantized.treatment == "as_it_is"
    if not config.has_good("quantization", "modules_to_save") or not (config.get("quantization") or stays):
        return
    saved = config.get("modules_to_save") or []
    quantized = [name for name in saved if name.rsplit(".", 1)[-1] in (facts.linear_modules or ())]
    if quantized:
        kept = [name for name in saved if name not in quantized]
        values = {"names": in_code(quantized)}
        yield QUANTIZED_WHOLE.found(
            config,
            "modules_to_save",
            values,
            drop("modules_to_save", quantized, kept) or remove("modules_to_save"),
            remove("quantization") if config.get("quantization") else None,
        )


MAX_LENGTH_BEYOND_POSITIONS = Rule(
    "max_length_beyond_positions",
    "warning",
    N_("`max_length` is {length}, but the model was made for {positions} tokens."),
    N_("Set `max_length: {positions}`."),
    broken="max_length: 4097",
    fixed="max_length: 4096",
    facts=Facts(max_positions=4096),
)


def _positions(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if not facts.max_positions or not config.has_good("max_length") or "max_length" not in config.values:
        return
    if config.get("max_length") > facts.max_positions:
        values = {"length": config.get("max_length"), "positions": facts.max_positions}
        yield MAX_LENGTH_BEYOND_POSITIONS.found(
            config, "max_length", values, config.change({"max_length": facts.max_positions})
        )


NO_TOKENIZER = Rule(
    "no_tokenizer",
    "warning",
    N_("The model's folder has no tokenizer, so it cannot be trained on text."),
    N_("Put the model's tokenizer files (tokenizer.json, tokenizer_config.json) into its folder."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=Facts(has_tokenizer=False),
    fixed_facts=Facts(has_tokenizer=True),
)


def _tokenizer(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.has_tokenizer is False:
        yield NO_TOKENIZER.found(config, "model_name")


RULES = (
    LAYER_BEYOND_MODEL,
    UNMATCHED_TARGET,
    UNMATCHED_PATTERN,
    QUANTIZED_WHOLE,
    MAX_LENGTH_BEYOND_POSITIONS,
    NO_TOKENIZER,
)
CHECKS: tuple[FactCheck, ...] = (
    _problems, _layers, _targets, _expression, _patterns, _quantized_whole, _positions, _tokenizer,
)  # fmt: skip
