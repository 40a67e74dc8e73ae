"""`import` and `export`: configs of other tools."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lora_backend.atomic import write_atomic
from lora_backend.commands.words import GOOD, NO, print_json, readable
from lora_backend.config.foreign import export_config, export_report, import_file, import_report


def import_command(arguments: argparse.Namespace) -> int:
    """Read another tool's config into ours; what became of each key goes to stderr."""
    result = import_file(arguments.config)
    if arguments.output:
        _write(arguments.output, result.text)
    if arguments.json:
        print_json(result.to_dict())
    else:
        print(import_report(result), file=sys.stderr)
        if not arguments.output:
            print(result.text, end="")
    return GOOD if result.is_valid else NO


def export_command(arguments: argparse.Namespace) -> int:
    """Write a config for another tool; what could not be carried goes to stderr."""
    result = export_config(readable(arguments.config).values, arguments.to)
    if arguments.output:
        _write(arguments.output, result.text)
    if arguments.json:
        print_json(result.to_dict())
    else:
        print(export_report(result), file=sys.stderr)
        if not arguments.output:
            print(result.text, end="")
    return GOOD


def _write(path: Path, text: str) -> None:
    write_atomic(path.parent.resolve() / path.name, text)  # a person's own place, reached by whatever way
