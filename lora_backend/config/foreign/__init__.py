"""Configs of other tools: read into ours and written from ours, with a row for every key and what became of it."""

from lora_backend.config.foreign.exporting import EXPORT_TOOLS, export_config
from lora_backend.config.foreign.importing import import_document, import_file, import_text
from lora_backend.config.foreign.report import export_report, import_report
from lora_backend.config.foreign.result import ExportResult, ExportRow, ImportResult, ImportRow
from lora_backend.config.foreign.tools import TOOLS, is_foreign

__all__ = [
    "EXPORT_TOOLS",
    "TOOLS",
    "ExportResult",
    "ExportRow",
    "ImportResult",
    "ImportRow",
    "export_config",
    "export_report",
    "import_document",
    "import_file",
    "import_report",
    "import_text",
    "is_foreign",
]
