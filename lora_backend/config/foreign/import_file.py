"""Import: a file of another tool read, converted, and the result checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lora_backend.config.check import check_config
from lora_backend.config.config_formats import Format
from lora_backend.config.config_text import ConfigDocument, parse_config, read_config
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.foreign.converting import convert
from lora_backend.config.foreign.outcomes import ImportResult
from lora_backend.config.rules import Facts
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_

FactsOf = Callable[[Mapping[str, Any]], Facts | None]


def _nothing_known(values: Mapping[str, Any]) -> Facts | None:
    return None


def import_text(text: str, name: str = "config.yaml", facts_of: FactsOf = _nothing_known) -> ImportResult:
    """The config that `text` means. Only TOML is told by the ending of `name`; `facts_of`: what the check of the result
    shall know beside its text.

    Raises `ConfigError` where the text cannot be read, is of no known tool, or of two.
    """
    file_format: Format = "toml" if Path(name).suffix.lower() == ".toml" else "yaml"
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        as_json = parse_config(text.lstrip("\ufeff"), "json")
        if as_json.is_readable:
            return import_document(as_json, facts_of)
    return import_document(parse_config(text, file_format), facts_of)


def import_file(path: Path, facts_of: FactsOf = _nothing_known) -> ImportResult:
    """The same for a file. `ConfigError` where there is none too."""
    document = read_config(path)
    return import_text(document.text, path.name, facts_of) if document.text else import_document(document)


def import_document(document: ConfigDocument, facts_of: FactsOf = _nothing_known) -> ImportResult:
    """The same for a document that was read already (`read_config`, `decode_config`)."""
    if not document.is_readable:
        raise ConfigError(N_("Nothing was imported: {reason}"), reason=document.problems[0].message)
    made = convert(document)
    text = dump_yaml(made.values) if made.values else ""
    problems = tuple(problem for problem in document.problems if problem.code != "syntax")
    findings = problems + check_config(parse_config(text), facts_of(made.values)).findings
    return ImportResult(made.tool.id, made.tool.title, made.rows, made.assumed, made.values, text, findings)
