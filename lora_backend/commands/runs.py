"""`runs list`, `runs show`, `runs compare`: what there is to know of runs. Looking at them changes nothing of theirs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from lora_backend.commands.run_again import again_lines
from lora_backend.commands.run_checkpoints import best_document, checkpoint_documents, checkpoint_lines
from lora_backend.commands.run_machines import together_document, together_lines
from lora_backend.commands.words import GOOD, NO, print_json, say
from lora_backend.config.diff import ABSENT
from lora_backend.config.schema import KEYS
from lora_backend.errors import RunError
from lora_backend.formats import duration, when
from lora_backend.i18n import N_, Message
from lora_backend.installation import this_installation
from lora_backend.runs.checkpoints.manifest import checkpoints_of, newest_whole
from lora_backend.runs.history.alerts import Alert, alerts, health_message
from lora_backend.runs.history.checkpoint_list import best_of, list_checkpoints, saved_steps
from lora_backend.runs.history.forecast import Forecast, forecasts
from lora_backend.runs.history.outcome import outcome_of
from lora_backend.runs.history.reproduce import Reproduction, reproduction
from lora_backend.runs.history.run_table import FIGURES, KIND, History, RunRow, config_differences, filtered, read_row
from lora_backend.runs.processes.queue import Waiting, waiting_for
from lora_backend.runs.processes.recovery import open_recovered, recover_all
from lora_backend.runs.processes.run_end import log_of_failure
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.failures import last_log_lines
from lora_backend.runs.record.logs import log_of, read_log
from lora_backend.runs.record.run_store import RunStore, open_run
from lora_backend.runs.record.unlinked import links_of
from lora_backend.terminal import aligned, in_lines, show
from lora_backend.verification.rank_documents import RankReport
from lora_backend.verification.verdicts import deciding, tone, verdict
from lora_backend.views.compare_view import BEST_MARK, HOW_MANY, can_compare, results
from lora_backend.views.job_view import job_document, job_message
from lora_backend.views.queue_view import forecast_messages, waiting_document, waiting_messages
from lora_backend.views.run_view import (
    DEFAULT_COLUMNS,
    HEADS,
    ListedRun,
    listed,
    progress_parts,
    value_text,
)
from lora_backend.views.state_view import passed_over_messages, stage_parts, state_message

LIST = ("id", "state", "name", "started", "step")
"""What stands at the left of the table; tags close it."""
MOST_OF_NAME = 42


def list_command(arguments: argparse.Namespace) -> int:
    """The table of all runs, as the page shows it: pinned ones first, then the newest."""
    columns = _columns(arguments.columns)
    root = this_installation().runs
    recover_all(root)
    known = History(root).rows()
    now = this_installation().clock()
    expected = forecasts(this_installation().workspace, known, now)
    found = filtered(known, arguments.filter, arguments.state, arguments.tag)
    rows = [row for row in found if arguments.archived or not row.labels.archived]
    if arguments.json:
        print_json({"runs": [row.to_json() | _expected(expected.get(row.id)) for row in rows]})
    elif rows:
        heads = [*(say(HEADS[name]) for name in LIST), *columns, say(HEADS["tags"])]
        show(aligned([heads, *(_cells(listed(row, columns)) for row in rows)]))
        waiting = [row.id for row in reversed(rows) if row.state.state == "queued" and row.id in expected]
        said = {run_id: forecast_messages(expected[run_id], {}, now) for run_id in waiting}
        if lines := [f"{run_id}: {' '.join(map(str, parts))}" for run_id, parts in said.items() if parts]:
            show(in_lines(lines))
    elif known:
        show(say(N_("No runs match. Change the search or the states.")))
    else:
        show(say(N_("There are no runs in {path} yet."), path=root))
    return GOOD


def show_command(arguments: argparse.Namespace) -> int:
    """One run as it is now; 1 where it failed or is lost."""
    run = open_recovered(this_installation().runs, arguments.id)
    row = read_row(run)
    if row is None:
        raise RunError(N_("Run {id} was not found; its folder may have been deleted."), id=run.id)
    if arguments.log is not None:
        return _show_log(run, arguments)
    again = reproduction(run)
    waiting = waiting_for(run, run.workspace) if row.state.state == "queued" else None
    now = this_installation().clock()
    is_going = not row.state.has_ended
    expected = forecasts(run.workspace, History(run.path.parent).rows(), now).get(run.id) if is_going else None
    document = _document(run, row, waiting, again) | _expected(expected)
    if arguments.json:
        print_json(document)
    else:
        show(
            in_lines(
                [
                    *_about(run, row, document, [*_waits(waiting), *forecast_messages(expected, {}, now)]),
                    "",
                    *again_lines(again),
                ]
            )
        )
    return NO if row.state.state in ("failed", "lost") else GOOD


def _show_log(run: RunStore, arguments: argparse.Namespace) -> int:
    """The end of the log of one of its processes."""
    path = log_of(run, arguments.log)
    part = read_log(path)
    if arguments.json:
        print_json({"run": run.id, "rank": arguments.log, "path": str(path), "text": part.text, "start": part.start})
    else:
        show(part.text.rstrip("\n"))
    return GOOD


def compare_command(arguments: argparse.Namespace) -> int:
    """Two to eight runs side by side."""
    if not can_compare(arguments.ids):
        raise RunError(HOW_MANY)
    runs = [open_run(this_installation().runs, run_id) for run_id in arguments.ids]
    configs = [run.config_as_changed() for run in runs]
    differences, outcomes = config_differences(configs), [outcome_of(run) for run in runs]
    if arguments.json:
        sides = {key: [None if value is ABSENT else value for value in values] for key, values in differences.items()}
        print_json(
            {"runs": arguments.ids, "differences": sides, "outcomes": [outcome.to_json() for outcome in outcomes]}
        )
        return GOOD
    heads = ["", *arguments.ids]
    show(say(N_("Config differences")))
    rows = [[key, *(value_text(key, value) for value in values)] for key, values in differences.items()]
    show(aligned([heads, *rows]) if rows else say(N_("Their configs are the same.")))
    found = results(outcomes)
    show("\n" + say(N_("Results")))
    show(aligned([heads, *([result.head.text(), *result.texts()] for result in found)]))
    if any(result.best for result in found):
        show(say(N_("{mark} the best of these runs"), mark=BEST_MARK))
    return GOOD


def _columns(text: str | None) -> Sequence[str]:
    if text is None:
        return DEFAULT_COLUMNS
    columns = [part.strip() for part in text.split(",") if part.strip()]
    for column in columns:
        if column not in (KIND, *FIGURES) and column not in KEYS:
            raise RunError(
                N_("There is no column {column}. Use a config key, or one of: {figures}."),
                column=column[:80],
                figures=", ".join([KIND, *FIGURES]),
            )
    return columns


def _cells(row: ListedRun) -> list[str]:
    figures = (value_text(name, value, 40) for name, value in row.values.items())
    return [row.id, row.state.text(), row.name[:MOST_OF_NAME], row.started, row.step, *figures, row.tags]


def _document(run: RunStore, row: RunRow, waiting: Waiting | None, again: Reproduction) -> dict[str, Any]:
    state, report, attempt = row.state, run.read_rank_report(), run.read_attempt()
    whole, damaged = newest_whole(run)
    saved = list_checkpoints(run, read_columns(run.metrics_jsonl))
    best = best_of(run, saved)
    return {
        **row.to_json(),
        "path": str(run.path),
        "links": links.text() if (links := links_of(run.path)) else None,
        "stage": state.stage,
        "detail": state.detail.text() if state.detail else None,
        "eta_s": state.eta_s,
        "silent_s": state.silent_s,
        "started_at": state.started_at,
        "ended_at": state.ended_at,
        "alerts": [{"kind": one.kind, "message": one.message.text()} for one in _alerts(run, row)],
        "message": state.message.text() if state.message else None,
        "remedy": state.remedy.text() if state.remedy else None,
        "log": _last_words(run) if state.state in ("failed", "lost") else [],
        "waiting": waiting_document(waiting) if waiting else None,
        "ranks": _ranks(report) if report else None,
        "attempt": attempt.number or None,
        "resume_note": attempt.resume_note.text() if attempt.resume_note else None,
        **together_document(run, this_installation().network),
        "cluster": job_document(run),
        "passed_over": [message.text() for message in passed_over_messages(run)],
        "checkpoints": {
            "all": [path.name for path in checkpoints_of(run)],
            "newest_whole": whole.name if whole else None,
            "damaged": [item.record().to_json() for item in damaged],
            "list": checkpoint_documents(saved, damaged),
            "best": None if best is None else best_document(best),
        },
        "reproduction": {**again.to_json(), "is_as_recorded": again.is_as_recorded},
    }


def _alerts(run: RunStore, row: RunRow) -> Sequence[Alert]:
    return alerts(run, row.state, read_columns(run.metrics_jsonl)) if not row.state.has_ended else ()


def _ranks(report: RankReport) -> dict[str, Any]:
    """Of memory and saved file the worse."""
    decides = deciding(report)
    return {"status": decides.status, "verdict": verdict(decides).text(), "tone": tone(report)}


def _last_words(run: RunStore) -> list[str]:
    """As they were kept with the end; of a run that nobody saw end, from the log itself."""
    ended = run.read_exit()
    return ended.log if ended and ended.log else last_log_lines(log_of_failure(run))


def _about(run: RunStore, row: RunRow, document: dict[str, Any], expected: Sequence[Message]) -> list[str]:
    labels = row.labels
    lines = [f"{row.id}  {row.title}  {state_message(row.state.state, row.health)}", document["path"]]
    if document["links"]:
        lines.append(document["links"])
    lines.append(say(N_("Started {time} by {actor}."), time=when(row.created_at), actor=row.actor))
    lines += _how_far(run, row)
    lines += [f"⚠ {one['message']}" for one in document["alerts"]]
    lines += [document[key] for key in ("message", "remedy") if document[key]]
    lines += [f"  | {line}" for line in document["log"]]
    if job := job_message(run):
        lines.append(str(job))
    lines += together_lines(run, this_installation().network, has_ended=row.state.has_ended)
    if expected:
        lines.append(" ".join(map(str, expected)))
    if figures := {name: value for name, value in row.figures.items() if value is not None}:
        lines.append(", ".join(f"{name} {value_text(name, value)}" for name, value in figures.items()))
    if document["ranks"]:
        lines.append(document["ranks"]["verdict"])
    lines += [*document["passed_over"], *filter(None, [document["resume_note"]])]
    lines += checkpoint_lines(document["checkpoints"])
    if labels.tags:
        lines.append(f"{say(N_('Tags'))}: {', '.join(labels.tags)}")
    if labels.note:
        lines.append(f"{say(N_('Note'))}: {labels.note}")
    return lines


def _waits(waiting: Waiting | None) -> list[Message]:
    return waiting_messages(waiting) if waiting else []


def _expected(forecast: Forecast | None) -> dict[str, Any]:
    """Its expected start and end; None of a run that has ended."""
    return {"expected": None if forecast is None else forecast.to_json()}


def _how_far(run: RunStore, row: RunRow) -> Iterator[str]:
    """The stage, the step, a trainer that says nothing, and a loss that did not end well."""
    state = row.state
    if not state.has_ended and state.state != "queued":
        yield " · ".join(map(str, stage_parts(state)))
    if parts := progress_parts(state, read_columns(run.metrics_jsonl), saved_steps(run)):
        yield " · ".join(map(str, parts))
    if state.silent_s is not None:
        silent = duration(state.silent_s)
        yield say(N_("The trainer is alive, but has written nothing for {time}."), time=silent)
    if state.has_ended and row.health.is_told_beside(state.state):
        yield f"⚠ {health_message(row.health)}"
