"""What is wrong with a config. Pure: config and facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lora_backend.config.accepted_values import takes
from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.diff import same_value
from lora_backend.config.findings import SEVERITIES, Finding
from lora_backend.config.foreign.notice import FOREIGN, notice_of
from lora_backend.config.key_findings import schema_findings_of, takes_words
from lora_backend.config.rules import ConfigView, Facts, all_findings
from lora_backend.config.schema import KEYS, default_config
from lora_backend.config.yaml_traps import full_width_values, leading_zero, word_of_yaml_1_1


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
    if not isinstance(document, ConfigDocument):
        document = ConfigDocument.of({str(key): value for key, value in document.items()})
    config = ConfigView(document.values, document.lines)
    findings = list(document.problems)
    invalid: set[str] = set()
    notice = notice_of(document) if document.is_readable else None
    if notice is not None:
        findings.append(notice.finding)
    if document.is_readable and not (notice and notice.is_whole):
        told = notice.covers if notice else ()
        schema_findings = list(schema_findings_of(config, document.written, told))
        invalid = {finding.key for finding in schema_findings if finding.key}
        findings += [*schema_findings, *_traps(config, document.written, invalid)]
        findings += all_findings(config, facts or Facts(), invalid)
    unknown = tuple(key for key in config.values if key not in KEYS)
    good = {key: value for key, value in config.values.items() if key in KEYS and key not in invalid}
    if notice is not None and notice.values:
        good = {key: value for key, value in notice.values.items() if takes(key, value)}
    defaults = default_config()
    return CheckResult(
        findings=tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.code != FOREIGN, f.line or 0))),
        missing=tuple(key for key in KEYS if key not in config.values),
        unknown=unknown,
        differences={
            key: {"default": defaults.get(key), "value": value}
            for key, value in config.values.items()
            if key in KEYS and not (key in defaults and same_value(defaults[key], value))
        },
        recommended_config={key: good.get(key, defaults.get(key)) for key in KEYS},
    )


def _traps(config: ConfigView, written: Mapping[str, str], invalid: set[str]) -> Iterator[Finding]:
    """What was read as something else than it looks like; where the value is wrong anyhow, that was said already."""
    for key, text in written.items():
        if key in invalid or key not in KEYS:
            continue
        value, line = config.values.get(key), config.lines.get(key)
        found = leading_zero(key, text, value, line)
        if found is None and not takes_words(KEYS[key]):
            found = word_of_yaml_1_1(key, text, value, line)
        if found is not None:
            yield found
    good = {key: value for key, value in config.values.items() if key in KEYS and key not in invalid}
    yield from full_width_values(good, config.lines)
