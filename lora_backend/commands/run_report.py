"""`runs report`: one run as an HTML page that needs nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path

from lora_backend.atomic import write_atomic
from lora_backend.commands.words import GOOD, print_json, say
from lora_backend.errors import RunError
from lora_backend.i18n import N_, current_language
from lora_backend.installation import this_installation
from lora_backend.runs.processes.recovery import open_recovered
from lora_backend.terminal import show
from lora_backend.views.report_page import report_page


def report_command(arguments: argparse.Namespace) -> int:
    """Write the page, in the language of the command."""
    installation = this_installation()
    run = open_recovered(installation.runs, arguments.id)
    if run.read_record().kind != "train":
        raise RunError(N_("Run {id} trains nothing, so it has no report. See `runs show {id}`."), id=run.id)
    path = installation.folder / (arguments.output or Path(f"{run.id}.html")).expanduser()
    write_atomic(path.parent.resolve() / path.name, report_page(run, installation, current_language()))
    if arguments.json:
        print_json({"run": run.id, "path": str(path)})
    else:
        show(say(N_("The report is in {path}."), path=path))
    return GOOD
