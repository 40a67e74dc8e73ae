"""`check`: what is wrong with a config, how it differs, and whether it can start here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_backend.commands.start_words import start_text
from lora_backend.commands.words import GOOD, NO, print_json
from lora_backend.config.check import CheckResult
from lora_backend.config.check_report import diff_text, report_text
from lora_backend.config.config_text import read_config
from lora_backend.config.diff import ABSENT, DiffRow, diff_configs
from lora_backend.config.foreign.converting import values_to_compare
from lora_backend.config.schema import KEYS, default_config
from lora_backend.config.scripts import ScriptDefaults, read_script
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, Message
from lora_backend.installation import this_installation
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.resolve import resolve
from lora_backend.preflight.startable import judge, startable
from lora_backend.terminal import show

OWN_SCRIPT = Path(__file__).parents[1] / "train_lora.py"
"""The trainer; its defaults are the schema's, and do not stand in its source."""


def check(arguments: argparse.Namespace) -> int:
    """Run the command."""
    document, installation = read_config(arguments.config), this_installation()
    judged = judge(resolve(document, installation, AnyPath(installation.folder)))
    result, start = judged.result, startable(judged)
    base = None if arguments.against is None else _base(arguments.against)
    rows = [] if base is None else diff_configs(values_to_compare(document), base.values, KEYS)
    if arguments.json:
        print_json(_check_document(result, rows, base) | start.to_dict())
    else:
        show(report_text(judged.remarks))
        show(f"\n{start_text(start, result.errors)}")
        if base is not None:
            show(f"\n{Message(N_('Differences from {file}:'), {'file': arguments.against})}\n{diff_text(rows)}")
            _print_origin(base)
    return GOOD if result.is_valid else NO


def _base(path: Path) -> ScriptDefaults:
    """What a config is compared with: another config, or the defaults of a script, which is read and not run."""
    if path.suffix.lower() == ".py":
        if path.resolve() == OWN_SCRIPT:
            return ScriptDefaults(default_config(), {}, ())
        return read_script(path)
    document = read_config(path)
    if not document.is_readable:
        raise ConfigError(
            N_("Cannot compare with {path}: {reason}"), path=str(path), reason=document.problems[0].message
        )
    return ScriptDefaults(values_to_compare(document), {}, ())


def _print_origin(base: ScriptDefaults) -> None:
    """Where in a script the defaults stand, and what its source says that they do not."""
    for number, source in enumerate(base.sources):
        template = N_("Line {line} of the script: {name}, for its defaults.")
        if number:
            template = N_("Line {line} of the script: {name}, for keys that are not set above.")
        show(Message(template, {"line": source.line, "name": source.name}))
    for remark in base.remarks:
        show(f"{Message(N_('Line {line} of the script'), {'line': remark.line})} · {remark.message}")


def _check_document(result: CheckResult, rows: list[DiffRow], base: ScriptDefaults | None) -> dict[str, Any]:
    document = result.to_dict()
    if base is None:
        return document
    # Compared with a file, "default" is what that file says.
    document["differences"] = {
        row.key: {"default": _side(row.base), "value": _side(row.value)} for row in rows if row.status != "equal"
    }
    if base.sources:
        document["script"] = {
            "sources": [{"line": source.line, "name": source.name.text()} for source in base.sources],
            "remarks": [
                {"line": remark.line, "name": remark.name, "message": remark.message.text()} for remark in base.remarks
            ],
        }
    return document


def _side(value: Any) -> Any:
    return None if value is ABSENT else value
