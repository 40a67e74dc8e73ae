"""A finding: one thing that a check has to say about a config."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

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

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """Plain data with the sentences in `language`."""
        return {
            "severity": self.severity,
            "code": self.code,
            "key": self.key,
            "line": self.line,
            "message": self.message.text(language),
            "remedy": self.remedy.text(language),
        }


def shorten(value: Any, limit: int = 80) -> str:
    """A value as it would be written, cut at `limit` characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__  # what cannot be written in JSON, or not in this world
    return text if len(text) <= limit else text[: limit - 1] + "…"
