"""What is wrong with a config. Pure: config and facts in, findings out."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from lora_backend.config.diff import same_value
from lora_backend.config.expected import expected
from lora_backend.config.files import ConfigDocument, parse_config
from lora_backend.config.findings import SEVERITIES, Finding, Severity
from lora_backend.config.schema import KEYS, TrainingConfig, default_config
from lora_backend.i18n import N_, Message

LARGEST = 2**63 - 1
"""The largest whole number that any of the libraries behind takes."""


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
class CheckResult:
    """All that a check has to say."""

    findings: tuple[Finding, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    differences: dict[str, dict[str, Any]]
    recommended_config: dict[str, Any]

    @property
    def is_valid(self) -> bool:
        return not self.errors

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """The document that `check --json` prints and `check_config_consistency` returns."""
        return {
            "is_valid": self.is_valid,
            "issues": [f.message.text(language) for f in self.findings if f.severity != "hint"],
            "missing": list(self.missing),
            "unknown": list(self.unknown),
            "differences": self.differences,
            "recommended_config": self.recommended_config,
            "findings": [finding.to_dict(language) for finding in self.findings],
        }


@dataclass(frozen=True)
class _Config:
    """A config under check: what it says, and on which line."""

    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """The value given, else the default."""
        return self.values[key] if key in self.values else KEYS[key].default

    def finding(self, severity: Severity, code: str, key: str, message: Message, remedy: Message) -> Finding:
        return Finding(severity, code, message, remedy, key, self.lines.get(key))


def check_config(document: ConfigDocument | Mapping[str, Any], facts: Facts | None = None) -> CheckResult:
    """Hold a config against the schema and against what is known. All findings at once, the worst first."""
    if isinstance(document, ConfigDocument):
        config, problems = _Config(document.values, document.lines), list(document.problems)
        readable = document.is_readable
    else:
        config, problems, readable = _Config({str(key): value for key, value in document.items()}), [], True
    findings = problems
    invalid: set[str] = set()
    if readable:
        schema_findings = list(_schema_findings(config))
        invalid = {finding.key for finding in schema_findings if finding.key}
        findings = [*problems, *schema_findings, *_across_keys(config, invalid)]
        findings += _against_facts(config, facts or Facts(), invalid)
    unknown = tuple(key for key in config.values if key not in KEYS)
    good = {key: value for key, value in config.values.items() if key in KEYS and key not in invalid}
    defaults = default_config()
    return CheckResult(
        findings=tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.line or 0))),
        missing=tuple(key for key in KEYS if key not in config.values),
        unknown=unknown,
        differences={
            key: {"default": defaults.get(key), "value": value}
            for key, value in config.values.items()
            if key in KEYS and not (key in defaults and same_value(defaults[key], value))
        },
        recommended_config={key: good.get(key, defaults.get(key)) for key in KEYS},
    )


def _schema_findings(config: _Config) -> Iterator[Finding]:
    kinds: dict[str, str] = {}
    unreadable = {key: kind for key, value in config.values.items() if (kind := _unreadable(key, value))}
    try:
        TrainingConfig.model_validate({key: value for key, value in config.values.items() if key not in unreadable})
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            kinds.setdefault(str(detail["loc"][0]), detail["type"])
    for key in unreadable:
        if kinds.get(key) == "missing":
            del kinds[key]
    kinds |= unreadable
    for key, kind in kinds.items():
        if kind == "extra_forbidden":
            yield _unknown_key(config, key)
        elif kind == "missing":
            yield config.finding(
                "error",
                "missing_key",
                key,
                Message(N_("`{key}` is missing."), {"key": key}),
                Message(N_("Add a line `{key}: …`: {expected}."), {"key": key, "expected": expected(KEYS[key])}),
            )
        else:
            yield _wrong_value(config, key, kind)


def _unreadable(key: str, value: Any) -> str | None:
    """The kind of error of what the schema cannot even be held against; None for all else."""
    if key not in KEYS:
        return "extra_forbidden"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "less_than"
    return "string_unicode" if isinstance(value, str) and not _is_unicode(value) else None


def _is_unicode(text: str) -> bool:
    """Whether it can be written to a file: half a surrogate pair cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _unknown_key(config: _Config, key: str) -> Finding:
    message = Message(N_("`{key}` is not a key of a training config; it would be ignored."), {"key": key})
    near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.6)
    if near:
        remedy = Message(N_("Did you mean `{near}`? Rename the key, or take the line out."), {"near": near[0]})
    else:
        remedy = Message(N_("Take the line out."))
    return config.finding("error", "unknown_key", key, message, remedy)


def _wrong_value(config: _Config, key: str, kind: str) -> Finding:
    value = config.values[key]
    values = {"key": key, "value": shorten(value), "expected": expected(KEYS[key])}
    out_of_range = kind.startswith(("greater_than", "less_than", "finite"))
    message = Message(N_("`{key}` is {value}, but must be {expected}."), values)
    remedy = Message(N_("Change the value of `{key}`."), values)
    if isinstance(value, int | float) and not isinstance(value, bool) and _is_good(key, shorten(value)):
        remedy = Message(N_('Write it in quotes: `{key}: "{value}"`.'), {"key": key, "value": shorten(value)})
    if isinstance(value, str) and _is_good_without_quotes(key, value):
        remedy = Message(
            N_("The value is text. Write it without quotes: `{key}: {bare}`."), {"key": key, "bare": value.strip()}
        )
    return config.finding("error", "out_of_range" if out_of_range else "wrong_type", key, message, remedy)


def _is_good_without_quotes(key: str, text: str) -> bool:
    """Whether the bare text is another value, and one that the key takes."""
    bare = parse_config(f"{key}: {text.strip()}").values.get(key, "")
    return not isinstance(bare, str) and _is_good(key, bare)


def _is_good(key: str, value: Any) -> bool:
    """Whether the key takes the value."""
    try:
        TrainingConfig.model_validate({"model_name": "m", key: value})
    except ValidationError:
        return False
    return True


def shorten(value: Any, limit: int = 80) -> str:
    """A value as it would be written, cut at `limit` characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__  # what cannot be written in JSON, or not in this world
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _across_keys(config: _Config, invalid: set[str]) -> Iterator[Finding]:
    yield from _lists(config, invalid)
    yield from _expressions(config, invalid)
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


def _expressions(config: _Config, invalid: set[str]) -> Iterator[Finding]:
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


def _lists(config: _Config, invalid: set[str]) -> Iterator[Finding]:
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


def _against_facts(config: _Config, facts: Facts, invalid: set[str]) -> Iterator[Finding]:
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


def _expression_without_match(config: _Config, targets: str, facts: Facts) -> Iterator[Finding]:
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
