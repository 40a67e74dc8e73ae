"""`import` and `export`: configs of other tools."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_backend.atomic import write_atomic
from lora_backend.commands.words import GOOD, NO, print_json, readable
from lora_backend.config.foreign.exporting import export_config
from lora_backend.config.foreign.import_file import import_file
from lora_backend.config.foreign.import_report import export_report, import_report
from lora_backend.config.named_data import trained_on
from lora_backend.config.rules import Facts
from lora_backend.data.example_file import preview_examples
from lora_backend.data.forms import LOOKED_AT, FormName
from lora_backend.data.read_as import ReadAs
from lora_backend.errors import FlightdeckError
from lora_backend.preflight.libraries import missing_packages
from lora_backend.terminal import show, write_file


def import_command(arguments: argparse.Namespace) -> int:
    """Read another tool's config into ours; what became of each key goes to stderr."""
    result = import_file(arguments.config, lambda values: Facts(missing_packages=missing_packages(values)))
    if arguments.output:
        _write(arguments.output, result.text)
    if arguments.json:
        print_json(result.to_dict())
    else:
        show(import_report(result), to_stderr=True)
        if not arguments.output:
            write_file(result.text)
    return GOOD if result.is_valid else NO


def export_command(arguments: argparse.Namespace) -> int:
    """Write a config for another tool; what could not be carried goes to stderr."""
    values = readable(arguments.config).values
    result = export_config(values, arguments.to, _row_format(values))
    if arguments.output:
        _write(arguments.output, result.text)
    if arguments.json:
        print_json(result.to_dict())
    else:
        show(export_report(result), to_stderr=True)
        if not arguments.output:
            write_file(result.text)
    return GOOD


def _row_format(values: Mapping[str, Any]) -> FormName | None:
    """The form of the rows in the data set; None where it is not on this machine, or there are several."""
    sets, how = trained_on(values), ReadAs.of(values)
    if len(sets) != 1:
        return None
    path, split = Path(sets[0].path), sets[0].split
    try:
        form, _ = preview_examples(path, LOOKED_AT, how.data_format, dict(how.data_columns), split=split)
    except FlightdeckError:
        return None
    return form.form


def _write(path: Path, text: str) -> None:
    write_atomic(path.parent.resolve() / path.name, text)  # a person's own place, reached by whatever way
