"""A run as one HTML page that needs nothing else: to be sent, printed, or kept beside the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_backend.escaping import visible_lines
from lora_backend.formats import when
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.run_labels import read_labels
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.report_view import Block, report_sections, what_went_wrong
from lora_backend.views.result_view import result_facts
from lora_backend.views.run_view import progress_parts, run_title
from lora_backend.views.state_view import state_message
from lora_backend.views.table import cell_text

TEMPLATE = Path(__file__).with_suffix(".html")
HTML_LANGUAGES = {"zh": "zh-CN"}


def report_page(run: RunStore, installation: Installation, language: str) -> str:
    """The page in `language`. Every text in it is escaped, and control characters are shown; it loads nothing."""
    from jinja2 import Environment, StrictUndefined  # only where a report is made

    record, state, columns = run.read_record(), run.state(), read_columns(run.metrics_jsonl)

    def said(message: Message | None) -> str:
        return message.text(language) if message else ""

    facts = result_facts(run, state, columns, run.read_answers(), installation)
    origin = {"id": run.id, "actor": record.actor or "–", "time": when(record.created_at)}
    values: dict[str, Any] = {
        "html_lang": HTML_LANGUAGES.get(language, language),
        "title": run_title(record),
        "state": said(state_message(state.state, health_of(run))),
        "progress": [said(part) for part in progress_parts(state, columns)],
        "subtitle": said(Message(N_("Run {id}, started by {actor}, {time}"), origin)),
        "wrong": [said(one) for one in what_went_wrong(run, state)],
        "note": read_labels(run.path).note,
        "facts": [{"head": said(one.head), "value": said(one.value), "note": said(one.note)} for one in facts],
        "sections": [
            {"title": said(one.title), "blocks": [_block(block, language) for block in one.blocks]}
            for one in report_sections(run, state, columns, installation, language)
        ],
        "footer": said(Message(N_("Made by LoRA Flightdeck on {time}."), {"time": when(installation.clock())})),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(values) + "\n"


def _shown(value: Any) -> Any:
    """What is put into the page: text without control characters. What the template itself made stays."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else visible_lines(value)


def _block(block: Block, language: str) -> dict[str, Any]:
    table = block.table
    fills = (table.fills if table else ()) or ("",) * (len(table.rows) if table else 0)
    return {
        "sentences": [one.text(language) for one in block.sentences],
        "svg": block.svg or "",
        "legend": [one.text(language) for one in block.legend],
        "heads": [head.text(language) for head in table.heads] if table else [],
        "rows": [
            {
                "fill": fill,
                "cells": [cell.text(language) if isinstance(cell, Message) else cell_text(cell) for cell in row],
            }
            for row, fill in zip(table.rows if table else (), fills, strict=True)
        ],
        "text": block.text or "",
        "folded": block.folded.text(language) if block.folded else "",
    }
