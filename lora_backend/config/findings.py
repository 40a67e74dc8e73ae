"""A finding: one thing that a check has to say about a config."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from lora_backend.config.patch import Patch
from lora_backend.config.secrets import redact, redacted
from lora_backend.i18n import Message

Severity = Literal["error", "warning", "hint"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "hint")


@dataclass(frozen=True)
class Fix:
    """One way to settle a finding with a click; the label says what happens to each key and entry."""

    changes: Patch
    label: Message

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", redacted(self.label))

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """Plain data with the label in `language`."""
        return {"label": self.label.text(language), "changes": self.changes.to_json()}


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
    fixes: tuple[Fix, ...] = ()
    """What settles it at once; where there are several ways, the one that keeps most of what the config says is first."""

    def __post_init__(self) -> None:
        # Findings are logged, stored and copied into tickets; a secret stays where the user put it.
        object.__setattr__(self, "message", redacted(self.message))
        object.__setattr__(self, "remedy", redacted(self.remedy))

    @property
    def fix(self) -> Patch | None:
        """The changes of the first fix."""
        return self.fixes[0].changes if self.fixes else None

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """Plain data with the sentences in `language`."""
        return {
            "severity": self.severity,
            "code": self.code,
            "key": self.key,
            "line": self.line,
            "message": self.message.text(language),
            "remedy": self.remedy.text(language),
            "fix": self.fix.to_json() if self.fix is not None else None,
            "fixes": [fix.to_dict(language) for fix in self.fixes],
        }


def shorten(value: Any, limit: int = 80) -> str:
    """A value as it would be written, cut at `limit` characters, without what looks like a secret."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__  # what cannot be written in JSON, or not in this world
    text = redact(text[: limit * 10])  # first, for half a secret has no shape any more
    return text if len(text) <= limit else text[: limit - 1] + "…"
