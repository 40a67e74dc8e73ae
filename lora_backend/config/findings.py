"""A finding: one thing that a check has to say about a config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lora_backend.config.secrets import redact, redacted
from lora_backend.i18n import Message

Severity = Literal["error", "warning", "hint"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "hint")


@dataclass(frozen=True)
class Finding:
    """`error` keeps a run from starting, `warning` runs but is hardly what was wanted, `hint` is good to know."""

    severity: Severity
    code: str
    message: Message
    remedy: Message
    key: str | None = None
    """The key as the user wrote it."""
    line: int | None = None
    """Where the key stands, counted from 1; None when the config did not come from a file."""
    fix: Mapping[str, Any] | None = None
    """What mends it at once, where one thing does: key → new value, None to take the key out (`fixes.with_fix`)."""

    def __post_init__(self) -> None:
        # Findings are logged, stored and copied into tickets; a secret stays where the user put it.
        object.__setattr__(self, "message", redacted(self.message))
        object.__setattr__(self, "remedy", redacted(self.remedy))

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """Plain data with the sentences in `language`."""
        return {
            "severity": self.severity,
            "code": self.code,
            "key": self.key,
            "line": self.line,
            "message": self.message.text(language),
            "remedy": self.remedy.text(language),
            "fix": dict(self.fix) if self.fix is not None else None,
        }


def shorten(value: Any, limit: int = 80) -> str:
    """A value as it would be written, cut at `limit` characters, without what looks like a secret."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__  # what cannot be written in JSON, or not in this world
    text = redact(text[: limit * 10])  # first, for half a secret has no shape any more
    return text if len(text) <= limit else text[: limit - 1] + "…"
