"""Our config → a file of another tool, with a row for every key of what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.check import check_config
from lora_backend.config.foreign.outcomes import ExportResult
from lora_backend.config.foreign.tools import TOOLS, WRITERS
from lora_backend.config.foreign.writing import Written
from lora_backend.config.schema import KEYS
from lora_backend.data.forms import FormName
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_

EXPORT_TOOLS = tuple(WRITERS)
"""Ids of the tools that can be written for."""


def export_config(values: Mapping[str, Any], tool: str, row_format: FormName | None = None) -> ExportResult:
    """The file of `tool` (one of `EXPORT_TOOLS`) that means the same as our config, as far as the tool can say it.

    `row_format`: the form of the rows that the data set holds; None where its file was not looked into.
    What both know is written out whole, defaults too, since the tool's own are other ones. Raises `ConfigError` for
    another tool, and for a config with errors.
    """
    if tool not in WRITERS:
        raise ConfigError(
            N_("There is no export to {tool}. Choose one of: {tools}."), tool=tool, tools=", ".join(EXPORT_TOOLS)
        )
    errors = check_config(values).errors
    if errors:
        raise ConfigError(N_("A config with errors cannot be exported: {reason}"), reason=errors[0].message)
    out = Written(values, row_format)
    text = WRITERS[tool].write(out)
    rows = tuple(out.rows[key] for key in KEYS)
    return ExportResult(tool, TOOLS[tool].title, WRITERS[tool].FILE_NAME, text, rows)
