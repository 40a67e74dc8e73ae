"""`data`: what a model learns of a data set, row by row, before anything is trained."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from itertools import dropwhile
from typing import Any

from lora_backend.commands.words import GOOD, NO, print_json, readable, setting
from lora_backend.config.check_report import finding_lines
from lora_backend.config.findings import Finding
from lora_backend.config.rules import ConfigView
from lora_backend.config.validation import refuse_errors
from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport
from lora_backend.data.row_report import open_asked, row_report
from lora_backend.errors import ConfigError, DataError
from lora_backend.formats import number
from lora_backend.i18n import N_, Message
from lora_backend.installation import this_installation
from lora_backend.preflight.blockers import OF_ROWS
from lora_backend.preflight.data_asked import by_name
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from lora_backend.terminal import is_coloured, show, show_styled
from lora_backend.views.data_view import (
    bad_row_table,
    data_document,
    data_findings,
    estimate_message,
    form_message,
    length_bars,
    more_bad_rows,
    rows_message,
    token_figures,
)
from lora_backend.views.row_view import LEGEND, PLAIN_LEGEND, marked_text, row_message, styled_pieces

CONFIGS = (".yaml", ".yml")
MOST_BAD = 20
"""Bad rows that have a line each; `--json` has a hundred."""
BAR = 40


def data_command(arguments: argparse.Namespace) -> int:
    """Run the command."""
    resolved = _resolved(arguments)
    questions = by_name(resolved.data_questions)
    for rows in resolved.rows:
        if rows.refusal is not None:
            raise rows.refusal
    if not questions:
        raise ConfigError(N_("{file} names no data set. Add `dataset`."), file=str(arguments.file))
    if resolved.model is not None:
        _ = resolved.model_path  # which raises for a model that is not here
    if arguments.show is not None:
        return _show_row(arguments, resolved, questions)
    reports = {name: count_here(question) for name, question in questions.items()}
    config = ConfigView(resolved.values, resolved.document.lines)
    findings = data_findings(config, replace(resolved.facts, problems=(), data_reports=reports))
    if arguments.json:
        print_json(_document(reports, findings))
    else:
        for name, report in reports.items():
            show("\n".join(_lines(report, name if len(reports) > 1 else None)))
        show("\n".join(["", *finding_lines(findings)]) if findings else f"\n{Message(N_('No problems found.'))}")
    return NO if any(finding.code in OF_ROWS or finding.severity == "error" for finding in findings) else GOOD


def _resolved(arguments: argparse.Namespace) -> ResolvedConfig:
    """A config that is named, or one of the data set and the model alone; with what the options change."""
    is_config = arguments.file.suffix.lower() in CONFIGS
    values: dict[str, Any] = dict(readable(arguments.file).values) if is_config else {"dataset": str(arguments.file)}
    values |= {"model_name": arguments.model} if arguments.model else {}
    values |= dict(map(setting, arguments.set))
    installation = this_installation()
    resolved = resolve(values, installation, AnyPath(installation.folder))
    errors = [
        finding for finding in resolved.result.errors if finding.code != "missing_key" and finding.code not in _SAID
    ]
    refuse_errors(replace(resolved.result, findings=tuple(errors)))
    return resolved


_SAID = ("no_chat_template", "nothing_to_hold_back")
"""Errors that are an answer of this command, and no reason not to ask."""


def count_here(question: DataQuestion) -> DataReport:
    """Counted in this process, which says on stderr what it is at; without a model rows alone are, and torch is not loaded."""
    if question.model is None:
        return _rows_alone(question)
    said: list[str] = []

    def say(message: Message, _: float) -> None:
        if message.template not in said:
            said.append(message.template)
            show(message, to_stderr=True)

    from lora_backend.tokens.data_counting import count_rows

    return count_rows(question, this_installation(), say)


def _rows_alone(question: DataQuestion) -> DataReport:
    examples = open_asked(question, this_installation())
    try:
        return row_report(question, examples)
    finally:
        examples.close()


def _document(reports: Mapping[str, DataReport], findings: tuple[Finding, ...]) -> dict[str, Any]:
    """Of one data set its document; of several a list of them, with what was found of all."""
    if len(reports) == 1:
        (report,) = reports.values()
        return data_document(report, findings)
    sets = []
    for name, report in reports.items():
        document = data_document(report, ())
        del document["findings"]
        sets.append({"dataset": name, **document})
    return {"datasets": sets, "findings": [finding.to_dict() for finding in findings]}


def _lines(report: DataReport, name: str | None) -> list[str]:
    lines = [] if name is None else [name]
    lines += [str(form_message(report)), str(rows_message(report))]
    if report.bad_rows:
        shown = report.but(bad_rows=report.bad_rows[:MOST_BAD])
        lines += ["", bad_row_table(shown).text(), *([str(more)] if (more := more_bad_rows(shown)) else [])]
    if report.counts is None:
        return lines
    figures = token_figures(report.counts)
    lines += ["", *(f"{figure.name}: {'≈ ' if figure.is_estimate else ''}{figure.value}" for figure in figures)]
    lines += [str(said)] if (said := estimate_message(report.counts)) else []
    bars = list(dropwhile(lambda bar: not bar.rows, length_bars(report.counts)))
    most = max((bar.rows for bar in bars), default=0)
    heads = Message(N_("Rows by length in tokens:"))
    wide = len(str(bars[-1].upto)) if bars else 0
    lines += ["", str(heads)] if bars else []
    for bar in bars:
        block = ("░" if bar.is_cut else "█") * round(BAR * bar.rows / most)
        lines.append(f"  {bar.above + 1:>{wide}}–{bar.upto:<{wide}}  {block} {number(bar.rows, 9)}")
    return lines


def _show_row(arguments: argparse.Namespace, resolved: ResolvedConfig, questions: Mapping[str, DataQuestion]) -> int:
    """Print one row as the model's template writes it."""
    if len(questions) > 1:
        raise ConfigError(N_("The config has several data sets. Name the file to show a row of."))
    (question,) = questions.values()
    if question.model is None:
        raise ConfigError(N_("Rows are shown as a model's chat template writes them. Name the model with `--model`."))
    if arguments.show < 1:
        raise DataError(N_("Rows are counted from 1."))
    from lora_backend.tokens.row_rendering import show_asked

    found = show_asked(question, resolved.installation, rows=[arguments.show])
    (row,) = found.rows
    if arguments.json:
        print_json(row.to_json() | {"note": None if row.note is None else row.note.text()})
        return GOOD if row.trained_tokens else NO
    if row.pieces:
        show(row_message(row))
        if is_coloured():
            show(Message(LEGEND))
            show()
            show_styled(styled_pieces(row))
        else:
            show(Message(PLAIN_LEGEND))
            show()
            show(marked_text(row))
    if row.note is not None:
        show(row.note)
    return GOOD if row.trained_tokens else NO
