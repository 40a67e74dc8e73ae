"""A config before it is used: refused for its errors in one sentence, and logged with all that was found."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend.config.check import CheckResult
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.findings import Finding, Severity
from lora_backend.config.foreign.notice import FOREIGN
from lora_backend.config.schema import KEYS, REQUIRED
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, Message, Plural

logger = logging.getLogger(__name__)
MOST_NAMED = 5
"""Errors that one sentence names."""
LEVELS: dict[Severity, int] = {"error": logging.ERROR, "warning": logging.WARNING, "hint": logging.INFO}


def log_config(config: Mapping[str, Any], result: CheckResult) -> None:
    """The whole config with what differs from the defaults, then every finding."""
    whole = {
        key: config.get(key, KEYS[key].default) for key in KEYS if key in config or KEYS[key].default is not REQUIRED
    }
    logger.info("config as it runs:\n%s", dump_yaml(whole).rstrip())
    changed = [f"{key} = {pair['value']!r} (default {pair['default']!r})" for key, pair in result.differences.items()]
    logger.info("differs from the defaults:\n%s", "\n".join(changed) or "nothing")
    for finding in result.findings:
        said = (finding.severity, finding.code, finding.message, finding.remedy)
        logger.log(LEVELS[finding.severity], "config %s [%s]: %s %s", *said)


class ErrorsInConfigError(ConfigError):
    """A check found errors. The sentence names them; `findings` have their remedies, for whoever has room for those."""

    def __init__(self, template: str, /, *, findings: Sequence[Finding], **values: Any) -> None:
        super().__init__(template, **values)
        self.findings = tuple(findings)


def refuse_errors(result: CheckResult) -> None:
    """Raise `ErrorsInConfigError` naming the errors of a check, if there are some; of many the first few."""
    if result.is_valid:
        return
    errors = result.errors
    said = [part for finding in errors[:MOST_NAMED] for part in _words_of(finding)]
    if len(errors) > MOST_NAMED:
        rest = len(errors) - MOST_NAMED
        said.append(Message(N_("And {count} more; `python -m lora_backend check` lists them all."), {"count": rest}))
    raise ErrorsInConfigError(
        Plural("The config has {count} error: {errors}", "The config has {count} errors: {errors}"),
        findings=errors,
        count=len(errors),
        errors=said,
    )


def _words_of(finding: Finding) -> list[Message]:
    """What is wrong; of a file of another tool, also what to do, which is one thing for all its keys."""
    return [finding.message, finding.remedy] if finding.code == FOREIGN else [finding.message]
