"""Whether a config can start here, as text for a terminal."""

from __future__ import annotations

from lora_backend.config.report import finding_lines
from lora_backend.i18n import N_, translate
from lora_backend.preflight.startable import Startable


def start_text(start: Startable) -> str:
    """The answer, and every blocker with its remedy and fixes."""
    if start.answer:
        return translate(N_("It can start on this machine now."))
    if start.blockers:
        return "\n".join([translate(N_("It cannot start on this machine now:")), *finding_lines(start.blockers)])
    return translate(N_("Whether it can start on this machine is not known yet: `plan` says how much memory it needs."))
