"""`check`: what is wrong with a config, and how it differs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_backend.commands.words import GOOD, NO, print_json
from lora_backend.config.check import CheckResult
from lora_backend.config.diff import ABSENT, DiffRow, diff_configs
from lora_backend.config.files import ConfigDocument, read_config
from lora_backend.config.report import diff_text, report_text
from lora_backend.config.schema import KEYS
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, translate
from lora_backend.preflight.facts import check_with_facts


def check(arguments: argparse.Namespace) -> int:
    """Run the command."""
    document = read_config(arguments.config)
    result = check_with_facts(document)
    rows = _differences(document, arguments.against)
    if arguments.json:
        print_json(_check_document(result, rows, arguments.against))
    else:
        print(report_text(result))
        if arguments.against:
            print(f"\n{translate(N_('Different from {file}:')).format(file=arguments.against)}\n{diff_text(rows)}")
    return GOOD if result.is_valid else NO


def _differences(document: ConfigDocument, against: Path | None) -> list[DiffRow]:
    if against is None:
        return []
    base = read_config(against)
    if not base.is_readable:
        raise ConfigError(
            N_("{path} cannot be compared with: {reason}"), path=str(against), reason=base.problems[0].message
        )
    return diff_configs(document.values, base.values, KEYS)


def _check_document(result: CheckResult, rows: list[DiffRow], against: Path | None) -> dict[str, Any]:
    document = result.to_dict()
    if against is not None:  # compared with a file, "default" is what that file says
        document["differences"] = {
            row.key: {"default": _side(row.base), "value": _side(row.value)} for row in rows if row.status != "equal"
        }
    return document


def _side(value: Any) -> Any:
    return None if value is ABSENT else value
