"""The first fix of every error and warning as one edit, made one after the other with a check between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lora_backend.config.config_text import ConfigDocument, parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.findings import Finding, Fix

MAX_FIXES = 100
"""More than a config has keys that could be wrong; fixes that undo one another must end."""
Look = Callable[[ConfigDocument], Sequence[Finding]]
"""What is wrong with a document, the worst first."""


@dataclass(frozen=True)
class AllFixed:
    """A text with everything fixed that has a fix."""

    text: str
    applied: tuple[tuple[Finding, Fix], ...]
    """In the order in which they were made."""
    left: tuple[Finding, ...]
    """Errors and warnings that are there afterwards: they need somebody to decide."""


def can_be_fixed(findings: Sequence[Finding]) -> bool:
    """Whether an error or a warning among them has a fix."""
    return any(finding.fixes and finding.severity != "hint" for finding in findings)


def fix_all(document: ConfigDocument, look: Look) -> AllFixed:
    """Apply first choices until none is left. Each is made on what the one before has left, and looked for anew: two fixes
    of one key never meet, and what a fix brings up is fixed too. No text is gone back to."""
    text, seen = document.text, {document.text}
    applied: list[tuple[Finding, Fix]] = []
    while True:
        found = [finding for finding in look(parse_config(text)) if finding.severity != "hint"]
        step = _next_step(text, found, seen) if len(applied) < MAX_FIXES else None
        if step is None:
            return AllFixed(text, tuple(applied), tuple(found))
        finding, text = step
        seen.add(text)
        applied.append((finding, finding.fixes[0]))


def _next_step(text: str, found: Sequence[Finding], seen: set[str]) -> tuple[Finding, str] | None:
    """The first finding whose fix leads to a text that was not there before, and that text."""
    for finding in found:
        if finding.fixes:
            fixed = with_values(text, finding.fixes[0].changes)
            if fixed not in seen:
                return finding, fixed
    return None
