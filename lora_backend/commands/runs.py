"""`runs list`, `runs show`, `runs compare`: what there is to know of runs. Looking at them changes nothing of theirs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from lora_backend.commands.run_again import again_lines
from lora_backend.commands.run_words import (
    damaged_lines,
    duration,
    figure,
    say,
    state_word,
    waiting_document,
    waiting_text,
)
from lora_backend.commands.words import GOOD, NO, print_json
from lora_backend.config.diff import ABSENT
from lora_backend.config.schema import KEYS
from lora_backend.errors import RunError
from lora_backend.formats import number, size, when
from lora_backend.i18n import N_, Plural
from lora_backend.runs.checkpoints.manifest import Damaged, checkpoints_of, newest_whole
from lora_backend.runs.history.alerts import Alert, alerts
from lora_backend.runs.history.checkpoint_list import list_checkpoints
from lora_backend.runs.history.outcome import Outcome, outcome_of
from lora_backend.runs.history.reproduce import Reproduction, reproduction
from lora_backend.runs.history.run_table import FIGURES, History, RunRow, config_differences, filtered, read_row
from lora_backend.runs.history.sentences import health_message, passed_over_messages, says_of_loss, stage_message
from lora_backend.runs.processes.queue import Waiting, waiting_for
from lora_backend.runs.processes.recovery import open_recovered, recover_all, workspace_of
from lora_backend.runs.record.changes import config_as_changed
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.failures import last_log_lines
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.run_folder import RunFolder, open_run
from lora_backend.runs.record.unlinked import links_of
from lora_backend.settings import load_settings
from lora_backend.terminal import aligned, in_lines, show
from lora_backend.verification.rank_documents import RankReport
from lora_backend.verification.verdicts import TONES, deciding, tone, verdict

DEFAULT_COLUMNS = ("loss", "eval_loss", "r", "learning_rate")
MOST_CHECKPOINTS = 10
"""Of which `runs show` has a line; `--json` has all."""
FEWEST_COMPARED, MOST_COMPARED = 2, 8


def list_command(arguments: argparse.Namespace) -> int:
    """The table of all runs, as the page shows it: pinned ones first, then the newest."""
    columns = _columns(arguments.columns)
    root = load_settings().runs
    recover_all(root)
    known = History(root).rows()
    found = filtered(known, arguments.filter, arguments.state, arguments.tag)
    rows = [row for row in found if arguments.archived or not row.labels.archived]
    if arguments.json:
        print_json({"runs": [row.to_json() for row in rows]})
    elif rows:
        heads = ("id", say(N_("State")), say(N_("Name")), say(N_("Started")), say(N_("Step")), *columns, say(N_("Tags")))  # fmt: skip
        show(aligned([heads, *(_cells(row, columns) for row in rows)]))
    elif known:
        show(say(N_("No runs match. Change the search or the states.")))
    else:
        show(say(N_("There is no run in {path} yet."), path=root))
    return GOOD


def show_command(arguments: argparse.Namespace) -> int:
    """One run as it is now; 1 where it failed or is lost."""
    run = open_recovered(load_settings().runs, arguments.id)
    row = read_row(run)
    if row is None:
        raise RunError(N_("The run {id} is not there; its folder may have been deleted."), id=run.id)
    again = reproduction(run)
    waiting = waiting_for(run, workspace_of(run)) if row.state.state == "queued" else None
    document = _document(run, row, waiting, again)
    if arguments.json:
        print_json(document)
    else:
        show(in_lines([*_about(row, document, waiting), "", *again_lines(again)]))
    return NO if row.state.state in ("failed", "lost") else GOOD


def compare_command(arguments: argparse.Namespace) -> int:
    """Two to eight runs side by side."""
    if not FEWEST_COMPARED <= len(arguments.ids) <= MOST_COMPARED:
        raise RunError(N_("Two to eight runs can be compared."))
    runs = [open_run(load_settings().runs, run_id) for run_id in arguments.ids]
    configs = [config_as_changed(run) for run in runs]
    differences, outcomes = config_differences(configs), [outcome_of(run) for run in runs]
    if arguments.json:
        sides = {key: [None if value is ABSENT else value for value in values] for key, values in differences.items()}
        print_json(
            {"runs": arguments.ids, "differences": sides, "outcomes": [outcome.to_json() for outcome in outcomes]}
        )
        return GOOD
    heads = ("", *arguments.ids)
    show(say(N_("Config differences")))
    if differences:
        show(
            aligned([heads, *((key, *(figure(key, value) for value in values)) for key, values in differences.items())])
        )
    else:
        show(say(N_("Their configs are the same.")))
    show("\n" + say(N_("Results")))
    show(aligned([heads, *_outcome_rows(outcomes)]))
    return GOOD


def _columns(text: str | None) -> Sequence[str]:
    if text is None:
        return DEFAULT_COLUMNS
    columns = [part.strip() for part in text.split(",") if part.strip()]
    for column in columns:
        if column not in FIGURES and column not in KEYS:
            raise RunError(
                N_("There is no column {column}. Take a key of the config, or one of: {figures}."),
                column=column[:80],
                figures=", ".join(FIGURES),
            )
    return columns


def _cells(row: RunRow, columns: Sequence[str]) -> list[str]:
    return [
        row.id,
        state_word(row.state.state, row.health),
        ("* " if row.labels.pinned else "") + row.title[:40],
        when(row.created_at),
        f"{row.state.step} / {row.state.total_steps or '–'}",
        *(figure(column, row.column(column), 40) for column in columns),
        ", ".join(row.labels.tags),
    ]


def _document(run: RunFolder, row: RunRow, waiting: Waiting | None, again: Reproduction) -> dict[str, Any]:
    state, report = row.state, run.read_rank_report()
    whole, damaged = newest_whole(run)
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
        "attempt": run.attempt().get("number"),
        "passed_over": [message.text() for message in passed_over_messages(run)],
        "checkpoints": {
            "all": [path.name for path in checkpoints_of(run)],
            "newest_whole": whole.name if whole else None,
            "damaged": [item.to_json() for item in damaged],
            "list": _checkpoints(run, damaged),
        },
        "reproduction": {**again.to_json(), "is_as_recorded": again.is_as_recorded},
    }


def _alerts(run: RunFolder, row: RunRow) -> Sequence[Alert]:
    return alerts(run, row.state, read_columns(run.metrics_jsonl)) if not row.state.has_ended else ()


def _ranks(report: RankReport) -> dict[str, Any]:
    """Of memory and saved file the worse."""
    decides = deciding(report)
    return {"status": decides.status, "verdict": verdict(decides).text(), "tone": tone(report)}


def _last_words(run: RunFolder) -> list[str]:
    """As they were kept with the end; of a run that nobody saw end, from the log itself."""
    kept = (read_json(run.exit_json) or {}).get("log")
    return [str(line) for line in kept] if isinstance(kept, list) else last_log_lines(run.train_log)


def _about(row: RunRow, document: dict[str, Any], waiting: Waiting | None) -> list[str]:
    state, labels = row.state, row.labels
    lines = [f"{row.id}  {row.title}  {state_word(state.state, row.health)}", document["path"]]
    if document["links"]:
        lines.append(document["links"])
    lines.append(say(N_("Started {time} by {actor}."), time=when(row.created_at), actor=row.actor))
    if not state.has_ended and state.state != "queued":
        lines.append(stage_message(state.stage).text())  # fmt: skip
    if state.total_steps:
        parts = [say(N_("Step {step} of {total}"), step=state.step, total=state.total_steps)]
        if state.eta_s is not None and not state.has_ended:
            parts.append(say(N_("{time} left"), time=duration(state.eta_s)))
        if state.has_ended and state.started_at and state.ended_at:
            parts.append(say(N_("took {time}"), time=duration(state.ended_at - state.started_at)))
        lines.append(" · ".join(parts))
    if state.silent_s is not None:
        lines.append(
            say(N_("The trainer is alive, but has written nothing for {time}."), time=duration(state.silent_s))
        )
    if state.has_ended and says_of_loss(state.state, row.health):
        lines.append(f"⚠ {health_message(row.health)}")
    lines += [f"⚠ {one['message']}" for one in document["alerts"]]
    lines += [document[key] for key in ("detail", "message", "remedy") if document[key]]
    lines += [f"  | {line}" for line in document["log"]]
    if waiting:
        lines.append(waiting_text(waiting))
    if figures := {name: value for name, value in row.figures.items() if value is not None}:
        lines.append(", ".join(f"{name} {figure(name, value)}" for name, value in figures.items()))
    if document["ranks"]:
        lines.append(document["ranks"]["verdict"])
    lines += document["passed_over"]
    lines += _checkpoint_lines(document["checkpoints"])
    if labels.tags:
        lines.append(f"{say(N_('Tags'))}: {', '.join(labels.tags)}")
    if labels.note:
        lines.append(f"{say(N_('Note'))}: {labels.note}")
    return lines


def _checkpoint_lines(checkpoints: dict[str, Any]) -> list[str]:
    name = checkpoints["newest_whole"]
    whole = say(
        Plural(
            "{count} checkpoint; the newest whole one is {name}.",
            "{count} checkpoints; the newest whole one is {name}.",
        ),
        count=len(checkpoints["all"]),
        name=name,
    )
    return [*([whole] if name else []), *damaged_lines(checkpoints["damaged"]), *_checkpoint_table(checkpoints)]


def _checkpoints(run: RunFolder, damaged: Sequence[Damaged]) -> list[dict[str, Any]]:
    """All of them; the newest were read byte for byte, of the others names and sizes are known."""
    known = {item.path.name: list(item.problems) for item in damaged}
    found = list_checkpoints(run, read_columns(run.metrics_jsonl))
    return [one.to_json() | ({"problems": known[one.name]} if one.name in known else {}) for one in found]


def _checkpoint_table(checkpoints: dict[str, Any]) -> list[str]:
    """The newest of them, a line each."""
    rows = [
        (
            f"  {one['name']}", when(one["saved_at"]), size(one["size_bytes"]), f"loss {number(one['loss'])}", f"eval_loss {number(one['eval_loss'])}",
            say(N_("damaged")) if one["problems"] else say(N_("complete")),
        )
        for one in reversed(checkpoints["list"][-MOST_CHECKPOINTS:])
    ]  # fmt: skip
    return aligned(rows).splitlines() if rows else []


def _outcome_rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    rows = {
        N_("State"): [state_word(one.state, one.health) for one in outcomes],
        N_("Step"): [f"{one.step} / {one.total_steps or '–'}" for one in outcomes],
        N_("Last loss"): [number(one.last_loss) for one in outcomes],
        N_("Lowest evaluation loss"): [number(one.lowest_eval_loss) for one in outcomes],
        N_("Time"): [duration(one.took_s) for one in outcomes],
        N_("Ranks"): [say(TONES[one.ranks]) for one in outcomes],
        N_("Measured tensors, all devices"): [size(one.measured_bytes) for one in outcomes],
        N_("Right answers"): [f"{one.right_answers} / {one.num_answers}" if one.num_answers else "–" for one in outcomes],
    }  # fmt: skip
    return [(say(head), *cells) for head, cells in rows.items()]
