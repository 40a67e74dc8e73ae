"""Whether a config can start here, as text for a terminal."""

from __future__ import annotations

from collections.abc import Collection

from lora_backend.config.check_report import finding_lines
from lora_backend.config.findings import Finding
from lora_backend.i18n import N_, translate
from lora_backend.preflight.startable import Startable


def start_text(start: Startable, said: Collection[Finding] = ()) -> str:
    """The answer with what a launch will ask, or every blocker with its remedy and fixes but for those `said` already."""
    if start.answer:
        return "\n".join([translate(N_("It can start on this machine now.")), *finding_lines(start.warnings)])
    told = {(finding.code, finding.key) for finding in said}
    blockers = [blocker for blocker in start.blockers if (blocker.code, blocker.key) not in told]
    if blockers:
        return "\n".join([translate(N_("It cannot start on this machine now:")), *finding_lines(blockers)])
    if start.blockers:
        return translate(N_("It cannot start on this machine now: fix the errors first."))
    if not start.is_counted:
        return translate(
            N_(
                "Whether it can start on this machine is not known yet: its rows have not been read with the model's tokenizer. Run `data CONFIG`."
            )
        )
    return translate(
        N_("Whether it can start on this machine is not known yet. Run `plan` to see how much memory it needs.")
    )
