"""What is wrong with a config. Pure: config and facts in, findings out."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lora_backend.config.diff import same_value
from lora_backend.config.expected import expected
from lora_backend.config.files import ConfigDocument, parse_config
from lora_backend.config.findings import SEVERITIES, Finding, shorten
from lora_backend.config.rules import ConfigView, Facts, across_keys, against_facts
from lora_backend.config.schema import KEYS, TrainingConfig, default_config
from lora_backend.i18n import N_, Message

LARGEST = 2**63 - 1
"""The largest whole number that any of the libraries behind takes."""


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


def check_config(document: ConfigDocument | Mapping[str, Any], facts: Facts | None = None) -> CheckResult:
    """Hold a config against the schema and against what is known. All findings at once, the worst first."""
    if isinstance(document, ConfigDocument):
        config, problems = ConfigView(document.values, document.lines), list(document.problems)
        readable = document.is_readable
    else:
        config, problems, readable = ConfigView({str(key): value for key, value in document.items()}), [], True
    findings = problems
    invalid: set[str] = set()
    if readable:
        schema_findings = list(_schema_findings(config))
        invalid = {finding.key for finding in schema_findings if finding.key}
        findings = [*problems, *schema_findings, *across_keys(config, invalid)]
        findings += against_facts(config, facts or Facts(), invalid)
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


def _schema_findings(config: ConfigView) -> Iterator[Finding]:
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


def _unknown_key(config: ConfigView, key: str) -> Finding:
    message = Message(N_("`{key}` is not a key of a training config; it would be ignored."), {"key": key})
    near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.6)
    if near:
        remedy = Message(N_("Did you mean `{near}`? Rename the key, or take the line out."), {"near": near[0]})
    else:
        remedy = Message(N_("Take the line out."))
    return config.finding("error", "unknown_key", key, message, remedy)


def _wrong_value(config: ConfigView, key: str, kind: str) -> Finding:
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
