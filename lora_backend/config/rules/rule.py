"""A rule: a code, how bad it is, what it says and what to do, with a config that breaks it and the nearest that does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora_backend.config.findings import Finding, Fix, Severity
from lora_backend.config.rules.rule_input import ConfigView, Facts
from lora_backend.i18n import Message

NOTHING_KNOWN = Facts()


@dataclass(frozen=True)
class Rule:
    """One thing that a check can find. Its page in the docs and its tests are made from it."""

    code: str
    severity: Severity
    sentence: str | None
    """Template of what is wrong; None where whoever found it says it."""
    remedy: str
    """Template of what to do about it, with the same values."""
    broken: str
    """Lines of YAML that this rule alone speaks of."""
    fixed: str
    """The nearest lines that no rule speaks of."""
    facts: Facts = NOTHING_KNOWN
    """What is known of model, data and machine in both examples."""
    fixed_facts: Facts | None = None
    """What is known in the fixed one, where that is what differs."""
    is_whole_file: bool = False
    """Whether the examples are whole files; else `model_name`, which every config needs, stands above them."""

    def found(
        self,
        config: ConfigView,
        key: str,
        values: Mapping[str, Any] | None = None,
        *fixes: Fix | None,
        severity: Severity | None = None,
        sentence: Message | str | None = None,
        remedy: Message | str | None = None,
    ) -> Finding:
        """A finding about `key`, on its line; `severity`, `sentence` and `remedy` where they are not the rule's own."""
        said, todo = self._said(sentence or self.sentence, values), self._said(remedy or self.remedy, values)
        return config.finding(severity or self.severity, self.code, key, said, todo, *fixes)

    def found_on(
        self,
        line: int | None,
        key: str | None,
        values: Mapping[str, Any] | None = None,
        *fixes: Fix,
        sentence: Message | None = None,
        remedy: Message | None = None,
    ) -> Finding:
        """A finding on `line` of a file that may not have been read yet."""
        said, todo = self._said(sentence or self.sentence, values), self._said(remedy or self.remedy, values)
        return Finding(self.severity, self.code, said, todo, key, line, fixes)

    def text(self, lines: str) -> str:
        """An example as a file."""
        return f"{lines}\n" if self.is_whole_file else f"model_name: m\n{lines}\n"

    def _said(self, words: Message | str | None, values: Mapping[str, Any] | None) -> Message:
        assert words is not None, f"{self.code} has no sentence of its own"
        return words if isinstance(words, Message) else Message(words, values or {})
