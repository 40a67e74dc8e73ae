"""`runs queue`: launch one run or a table of them, detached; or say what waits."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_backend.bounded import open_regular
from lora_backend.commands.asking import asked_once, refusal_lines
from lora_backend.commands.data import count_here
from lora_backend.commands.plan import trace_here
from lora_backend.commands.words import GOOD, NO, print_json, say
from lora_backend.config.check_report import report_text
from lora_backend.config.config_text import read_config
from lora_backend.config.config_writing import dump_yaml, with_values
from lora_backend.config.diff import ABSENT
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_
from lora_backend.installation import path_of, this_installation
from lora_backend.launching.requests import StartOptions
from lora_backend.launching.table import Launched, TableLaunch, Variant, preview
from lora_backend.launching.table_rows import NAME, Row, read_table
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.placement import TightError
from lora_backend.preflight.resolve import resolve
from lora_backend.runs.history.forecast import Forecast, forecasts
from lora_backend.runs.history.run_table import History
from lora_backend.runs.processes.queue import waiting_for
from lora_backend.runs.processes.recovery import recover_all
from lora_backend.runs.processes.waiting import entries
from lora_backend.terminal import in_lines, show
from lora_backend.views.queue_view import forecast_messages, started_message, waiting_document, waiting_messages
from lora_backend.views.run_view import value_text

MAX_TABLE_BYTES = 1 << 20


def queue_command(arguments: argparse.Namespace) -> int:
    """Launch one run or a table of them, detached; without a config, say what waits and for what."""
    if arguments.config is None:
        if any(getattr(arguments, name) for name in ("table", "name", "dry_run", "yes", "anyway", "shares")):
            raise ConfigError(N_("Name the config to make the runs from."))
        return _list_queue(arguments)
    if arguments.table and arguments.name:
        raise ConfigError(N_("With a table, the column `name` names the runs. Leave out `--name`."))
    rows = _table(arguments.table) if arguments.table else [Row(1, {NAME: arguments.name} if arguments.name else {})]
    installation = this_installation()
    policy = AnyPath(installation.folder, installation.data_roots, is_bound_in_publishing=True)
    document = read_config(arguments.config)
    if not document.is_readable or any(problem.severity == "error" for problem in document.problems):
        result = resolve(document, installation, AnyPath(installation.folder)).result
        print_json(result.to_dict()) if arguments.json else show(report_text(result))
        return NO
    text = document.text if document.format == "yaml" else dump_yaml(document.values)
    variants = preview(
        model_from_here(text, document.values), [_row_from_here(row) for row in rows], installation, policy
    )
    problems = {
        variant.line: [problem.text() for problem in variant.problems(anyway=arguments.anyway)] for variant in variants
    }
    can_start = not any(problems.values())
    if arguments.dry_run or not can_start:
        if arguments.json:
            print_json(
                {
                    "rows": [_variant_document(variant, problems[variant.line]) for variant in variants],
                    "can_start": can_start,
                }
            )
        else:
            show(
                in_lines(
                    line
                    for variant in variants
                    for line in _variant_lines(variant, problems[variant.line], _place(variant, arguments))
                )
            )
            if not arguments.dry_run:
                show(say(N_("Nothing was started.")))
        return GOOD if can_start else NO
    table = TableLaunch(installation, policy, trace_here, count_here)
    try:
        launched = asked_once(
            arguments,
            lambda accepts: table.start_all(
                variants, StartOptions(accepts=accepts, shares=arguments.shares), tags=arguments.tag
            ),
        )
    except TightError as error:
        return _not_started(arguments, error)
    if arguments.json:
        print_json({"runs": [_launched_document(one) for one in launched]})
    else:
        show(in_lines(_launched_line(one, _place(one.variant, arguments)) for one in launched))
    return GOOD if all(one.run for one in launched) else NO


def _not_started(arguments: argparse.Namespace, error: TightError) -> int:
    lines = refusal_lines(error)
    print_json({"runs": [], "error": str(error), "remedies": lines}) if arguments.json else show(
        in_lines([error, *lines])
    )
    return NO


def _list_queue(arguments: argparse.Namespace) -> int:
    installation = this_installation()
    recover_all(
        installation.runs
    )  # one that was queued when its workspace was copied or restored takes its place again
    waiting = [(entry.run, waiting_for(entry.run, installation.workspace)) for entry in entries(installation.workspace)]
    now = installation.clock()
    expected = forecasts(installation.workspace, History(installation.runs).rows(), now)
    if arguments.json:
        print_json(
            {
                "queue": [
                    {"run": run.id, **waiting_document(found), "expected": expected.get(run.id, Forecast()).to_json()}
                    for run, found in waiting
                ]
            }
        )
    elif waiting:
        show(
            in_lines(
                f"{place}. {run.id}: {' '.join(map(str, [*waiting_messages(found), *forecast_messages(expected.get(run.id), {}, now)]))}"
                for place, (run, found) in enumerate(waiting, start=1)
            )
        )
    else:
        show(say(N_("The queue is empty.")))
    return GOOD


def _table(path: Path) -> list[Row]:
    """The rows in a file. Raises `ConfigError` for one that is no table."""
    try:
        with open_regular(path) as file:
            data = file.read(MAX_TABLE_BYTES + 1)
    except OSError as error:
        raise ConfigError(N_("{path}: {reason}"), path=str(path), reason=error.strerror or str(error)) from error
    if len(data) > MAX_TABLE_BYTES:
        raise ConfigError(N_("The table {path} is larger than {limit}."), path=str(path), limit="1 MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(N_("{file} is not UTF-8 text. Save it as CSV in UTF-8."), file=str(path)) from error
    return read_table(text)


def model_from_here(text: str, values: Mapping[str, Any]) -> str:
    """The config with a model's relative path written out: the trainer may be started from another folder."""
    name = values.get("model_name")
    absolute = _absolute(name) if isinstance(name, str) else name
    return text if absolute == name else with_values(text, {"model_name": absolute})


def _row_from_here(row: Row) -> Row:
    return Row(row.line, {key: _absolute(text) if key == "model_name" else text for key, text in row.cells.items()})


def _absolute(name: str) -> str:
    path = path_of(name)
    return str(path.absolute()) if name and path is not None and path.exists() else name


def _variant_document(variant: Variant, problems: Sequence[str]) -> dict[str, Any]:
    return {
        "line": variant.line,
        "name": variant.name,
        "differences": {
            row.key: {"base": None if row.base is ABSENT else row.base, "value": None if row.value is ABSENT else row.value}
            for row in variant.differences
        },
        "can_start": not problems,
        **variant.start.to_dict(),
        "errors": list(problems),
        "warnings": [finding.message.text() for finding in variant.result.findings if finding.severity == "warning"],
    }  # fmt: skip


def _place(variant: Variant, arguments: argparse.Namespace) -> str:
    """Where a run comes from: its line of the table, or the one config."""
    return say(N_("line {line}"), line=variant.line) if arguments.table else arguments.config.name


def _variant_lines(variant: Variant, problems: Sequence[str], place: str) -> list[str]:
    name = f" ({variant.name})" if variant.name else ""
    changes = ", ".join(
        f"{row.key}: {value_text(row.key, row.base)} → {value_text(row.key, row.value)}" for row in variant.differences
    )
    mark = "✗" if problems else "✓"
    return [
        f"{mark} {place}{name}: {changes or say(N_('the config unchanged'))}",
        *(f"    {problem}" for problem in problems),
        *(f"    ⚠ {warning.message}" for warning in variant.start.warnings),
    ]


def _launched_document(one: Launched) -> dict[str, Any]:
    return {
        "line": one.variant.line,
        "name": one.variant.name,
        "run": one.run.id if one.run else None,
        "path": str(one.run.path) if one.run else None,
        "state": one.run.state().state if one.run else None,
        "error": one.error.text() if one.error else None,
    }


def _launched_line(one: Launched, place: str) -> str:
    if one.run is None:
        return f"✗ {place}: {one.error}"
    return str(started_message(one.run))
