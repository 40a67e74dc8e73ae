"""What an import and an export come to: a row for every key, and the text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lora_backend.config.findings import Finding
from lora_backend.config.foreign.reasons import DISTRIBUTED, NOT_NEEDED
from lora_backend.i18n import Message

ImportOutcome = Literal["taken", "translated", "not_supported", "unknown"]
ShownOutcome = Literal["taken", "translated", "not_supported", "not_needed", "unknown"]
ExportOutcome = Literal["taken", "translated", "not_supported"]

_SECRET = re.compile(r"(?:hub|hf|wandb|ms|om|access|auth)_token$|api_?key|secret|password|webhook", re.IGNORECASE)
HIDDEN = "•••"


def is_secret(key: str) -> bool:
    """Whether a key's name says that its value is nobody else's business."""
    return _SECRET.search(key) is not None


@dataclass(frozen=True)
class ImportRow:
    """One key of the source, and what became of it.

    `taken`: the value stands under our name, or nothing had to be carried. `translated`: it stands as another value
    that means the same. `not_supported`: it is lost, and the message says what that means. `unknown`: not a key of
    that tool; it stays in the config under its own name, unless it is a secret.
    """

    key: str
    """As in the source; below a section `section.key`."""
    value: Any
    line: int | None
    """Where the key stands, from 1; None for a default of the tool that is not written in the file."""
    outcome: ImportOutcome
    target_key: str | None
    target_value: Any
    message: Message
    also: Mapping[str, Any] = field(default_factory=dict)
    """Other keys of ours that say a part of it, with their values."""

    @property
    def shown_as(self) -> ShownOutcome:
        """The outcome for people: what is lost without any loss is told quietly."""
        if self.outcome != "not_supported":
            return self.outcome
        # Of a default that the file does not write, the reason is a part of the sentence.
        reasons = {self.message.template, getattr(self.message.values.get("meaning"), "template", None)}
        is_detail = DISTRIBUTED in reasons and self.key.rpartition(".")[2].startswith(("ddp_", "local_rank"))
        return "not_needed" if is_detail or reasons & NOT_NEEDED else self.outcome

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """Plain data with the sentence in `language`."""
        return {
            "key": self.key,
            "value": self.value,
            "line": self.line,
            "outcome": self.outcome,
            "target_key": self.target_key,
            "target_value": self.target_value,
            "message": self.message.text(language),
        }


@dataclass(frozen=True)
class ImportResult:
    """An imported config: `text` is ours as YAML, `rows` has one row for each key of the source."""

    tool: str
    """Id of the tool that was recognised."""
    title: str
    rows: tuple[ImportRow, ...]
    assumed: tuple[ImportRow, ...]
    """Values that the file does not write because they are that tool's defaults, where ours are other ones."""
    values: dict[str, Any]
    text: str
    findings: tuple[Finding, ...]
    """What `check_config` says of the result, and what was wrong with the source."""

    @property
    def is_valid(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """The document that `import --json` prints."""
        return {
            "tool": self.tool,
            "title": self.title,
            "is_valid": self.is_valid,
            "rows": [row.to_dict(language) for row in self.rows],
            "assumed": [row.to_dict(language) for row in self.assumed],
            "config": self.values,
            "text": self.text,
            "findings": [finding.to_dict(language) for finding in self.findings],
        }


@dataclass(frozen=True)
class ExportRow:
    """One key of our config, and what became of it in the other tool's file."""

    key: str
    value: Any
    outcome: ExportOutcome
    written: dict[str, Any]
    """What stands in the file for it."""
    message: Message
    is_guess: bool = False
    """Whether it is right only under a condition, which the message names."""

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """Plain data with the sentence in `language`."""
        return {
            "key": self.key,
            "value": self.value,
            "outcome": self.outcome,
            "written": self.written,
            "message": self.message.text(language),
            "is_guess": self.is_guess,
        }


@dataclass(frozen=True)
class ExportResult:
    """Another tool's file as `text`, to be named `file_name`."""

    tool: str
    title: str
    file_name: str
    text: str
    rows: tuple[ExportRow, ...]

    @property
    def lost(self) -> tuple[ExportRow, ...]:
        """What could not be carried."""
        return tuple(row for row in self.rows if row.outcome == "not_supported")

    @property
    def guesses(self) -> tuple[ExportRow, ...]:
        """What should be looked at before the file is used."""
        return tuple(row for row in self.rows if row.is_guess)

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """The document that `export --json` prints."""
        return {
            "tool": self.tool,
            "title": self.title,
            "file_name": self.file_name,
            "text": self.text,
            "rows": [row.to_dict(language) for row in self.rows],
        }
