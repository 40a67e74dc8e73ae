"""From a table, one config becomes many runs: what each will be, and their launch."""

from __future__ import annotations

import base64
import csv
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lora_backend import outside
from lora_backend.config.check import CheckResult
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.diff import DiffRow, diff_configs
from lora_backend.config.schema import KEYS
from lora_backend.errors import ConfigError, FlightdeckError
from lora_backend.i18n import N_, Message, Plural
from lora_backend.launching.launch import launch_from_browser
from lora_backend.os_errors import in_words
from lora_backend.planning.report import verdict
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.placement import TightError, plan_start
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.roots import bind_paths
from lora_backend.preflight.start_plan import in_doubt
from lora_backend.preflight.startable import Startable, judge, startable
from lora_backend.runs.checkpoints.publication import place_of
from lora_backend.runs.record.labels import write_labels
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.settings import Settings, load_settings

NAME = "name"
"""A column of this title names the run; it is no key of a config."""
NAMED = 3
"""Rows that a question about all of them names."""
MAX_ROWS = 1000
MAX_COLUMNS, MAX_CELLS = 100, 10_000
MAX_WRITTEN = 4 * 2**20
"""Characters of all configs that a table makes; each is written, read and checked: a minute's work at most."""
AT_ONCE, ROW_COSTS, CELL_COSTS = 32_000, 500, 20
"""Characters that are checked in a third of a second, and as how many a row and a cell count whatever is in them."""


@dataclass(frozen=True)
class Row:
    """One line of the table: column → cell; an empty cell leaves the base's value."""

    line: int
    """Counted from 1, as an editor does."""
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Variant:
    """What one row will be as a run."""

    line: int
    name: str | None
    text: str
    """The config as it will be launched."""
    values: Mapping[str, Any]
    differences: tuple[DiffRow, ...]
    """From the base config; only keys that differ."""
    result: CheckResult
    start: Startable
    """Whether it can start here, now."""
    problem: Message | None = None
    """What the check of one config cannot see: another row would publish to the same place."""

    def problems(self, *, anyway: bool = False) -> list[Message]:
        """What keeps it from starting: errors of the text, what stands in the way here, another row. `anyway` passes over a
        plan that does not fit."""
        blockers = [blocker.message for blocker in self.start.blocking(anyway=anyway)]
        said = [finding.message for finding in self.result.errors]
        said += [message for message in blockers if message not in said]  # what is wrong in the text may stand in both
        return [*said, *([self.problem] if self.problem else [])]

    def can_start(self, *, anyway: bool = False) -> bool:
        return not self.problems(anyway=anyway)


@dataclass(frozen=True)
class Launched:
    """What came of one row: a run, or the sentence that says why not."""

    variant: Variant
    run: RunFolder | None
    error: Message | None = None


Once = Callable[[Variant, Callable[[], str]], str]
"""Calls the launch of a variant, unless that was done before; the id of its run."""


def read_table(text: str) -> list[Row]:
    """The rows of a table with titles in its first line: tabs (as pasted from a sheet), semicolons or commas.

    Raises `ConfigError` for a table without titles or rows, with a title twice, or a row with more cells than titles.
    """
    text = text.lstrip("\ufeff")
    separator = max("\t;,", key=next((line for line in text.splitlines() if line.strip()), "").count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        table = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ConfigError(N_("The table cannot be read: {reason}."), reason=str(error)) from error
    if len(table) < 2:
        raise ConfigError(N_("The table has no rows. Write the keys into its first line, and one run into each line below."))  # fmt: skip
    (_, heads), *lines = table
    if len(lines) > MAX_ROWS:
        raise ConfigError(N_("The table has {count} rows; at most {limit} runs are made at once."), count=len(lines), limit=MAX_ROWS)  # fmt: skip
    width = max(_width(cells) for _, cells in table)
    titles = [title.strip() for title in heads[: max(width, 1)]]  # without a sheet's empty columns
    if len(titles) > MAX_COLUMNS or len(titles) * len(lines) > MAX_CELLS:
        raise ConfigError(
            N_("The table has {columns} and {rows}; at most {most} columns and {limit} cells are read. Leave out columns in which every row is the same."),
            columns=Message(Plural("{count} column", "{count} columns"), {"count": len(titles)}), rows=Message(Plural("{count} row", "{count} rows"), {"count": len(lines)}), most=MAX_COLUMNS, limit=MAX_CELLS,
        )  # fmt: skip
    for position, title in enumerate(titles):
        if not title or title in titles[:position]:
            raise ConfigError(N_("Column {number} of the table has no title, or a duplicate one."), number=position + 1)  # fmt: skip
    rows = []
    for line, cells in lines:
        if len(cells) > len(titles) and any(cell.strip() for cell in cells[len(titles) :]):
            raise ConfigError(Plural("Line {line} of the table has {cells} cells, but there is {count} column.", "Line {line} of the table has {cells} cells, but there are {count} columns."), line=line, cells=len(cells), count=len(titles))  # fmt: skip
        rows.append(Row(line, {title: cell.strip() for title, cell in zip(titles, cells, strict=False) if cell.strip()}))  # fmt: skip
    return rows


def _width(cells: Sequence[str]) -> int:
    """Columns up to the last that is not empty."""
    return next((number for number in range(len(cells), 0, -1) if cells[number - 1].strip()), 0)


def preview(base_text: str, rows: Sequence[Row], settings: Settings) -> list[Variant]:
    """What each row will be: the base config with the row's cells, how it differs, and what the check says of it."""
    base = parse_config(base_text)
    if not base.is_readable:
        raise ConfigError(N_("The config cannot be read: {reason}"), reason=base.problems[0].message)
    if len(rows) * len(base_text) > MAX_WRITTEN:
        raise ConfigError(
            Plural("{count} row of a config of {size} characters are more than {limit} together. Take fewer rows, or comments out of the config.", "{count} rows of a config of {size} characters are more than {limit} together. Take fewer rows, or comments out of the config."),
            count=len(rows), size=len(base_text), limit=MAX_WRITTEN,
        )  # fmt: skip
    taken: dict[Path, int] = {}
    found = []
    for done, row in enumerate(rows):
        outside.progress(done / len(rows))
        found.append(_variant(base_text, base.values, row, taken, settings))
    return found


def preview_apart(
    base_text: str, rows: Sequence[Row], settings: Settings, on_progress: Callable[[float], None] | None = None
) -> list[Variant]:
    """The same for a page: what takes longer than a moment is done in a process of its own, so that other sessions go on."""
    num_cells = sum(len(row.cells) for row in rows)
    if len(rows) * (len(base_text) + ROW_COSTS) + num_cells * CELL_COSTS <= AT_ONCE:
        return preview(base_text, rows, settings)
    cells = [(row.line, dict(row.cells)) for row in rows]
    found = outside.call(f"{__name__}:previewed", base_text, cells, on_progress=on_progress)
    variants: list[Variant] = pickle.loads(base64.b64decode(found))  # noqa: S301 - a process of ours wrote it
    return variants


def previewed(base_text: str, rows: Sequence[tuple[int, Mapping[str, str]]]) -> str:
    """`preview` as the other process answers it; its settings are of the same environment."""
    variants = preview(base_text, [Row(line, cells) for line, cells in rows], load_settings())
    return base64.b64encode(pickle.dumps(variants)).decode()


def queue_all(
    variants: Sequence[Variant],
    settings: Settings,
    trace: Trace,
    actor: str | None = None,
    *,
    accepts: Verdict = "fits",
    shares: bool = False,
    tags: Sequence[str] = (),
    once: Once = lambda _, launch: launch(),
    progress: Callable[[int], None] = lambda _: None,
) -> list[Launched]:
    """Launch every variant; the first starts where its GPUs are free, the others wait.

    Raises `ConfigError`, and launches nothing, where one of them cannot start; `TightError` likewise, which asks once for
    all. One that is refused by its plan or its data leaves the others as they are. `accepts` and `shares` as in
    `launch_from_browser`; `tags` go to every run;
    `once` sees to it that a row which was launched before is not launched again; `progress` hears how many are done.
    """
    bad = [variant.line for variant in variants if not variant.can_start(anyway=accepts == "over")]
    if bad:
        raise ConfigError(N_("Nothing was started. Fix line {lines} of the table first."), lines=", ".join(map(str, bad)))  # fmt: skip
    if accepts == "fits":
        _refuse_tight(variants, settings, trace)
    launched = []
    for done, variant in enumerate(variants):
        progress(done)

        def launch(variant: Variant = variant) -> str:
            run = launch_from_browser(
                variant.text, settings, trace, actor, accepts=accepts, shares=shares, name=variant.name
            )
            write_labels(run.path, tags=tags)
            return run.id

        try:
            launched.append(Launched(variant, RunFolder(settings.runs / once(variant, launch))))
        except FlightdeckError as error:
            launched.append(Launched(variant, None, error.message))
        except OSError as error:  # a full disk; the runs before go on
            launched.append(Launched(variant, None, in_words(error).message))
    progress(len(variants))
    return launched


def _refuse_tight(variants: Sequence[Variant], settings: Settings, trace: Trace) -> None:
    """Raise `TightError` naming the rows whose plan is tight, as it would be if each were the first to start."""
    said: dict[int, Message] = {}
    for variant in variants:
        try:
            doubted = in_doubt(plan_start(bind_paths(variant.values, settings), settings, trace), settings)
        except (FlightdeckError, OSError):
            continue  # its launch says why, and leaves the others as they are
        if doubted is not None and doubted.verdict == "tight":
            said[variant.line] = verdict(doubted)
    if not said:
        return
    if len(variants) == 1:
        raise TightError(said[variants[0].line])
    rows = [Message(N_("Line {line}: {reason}"), {"line": line, "reason": why}) for line, why in said.items()]
    found = {"count": len(said), "total": len(variants), "rows": rows[:NAMED]}
    raise TightError(
        Message(Plural("{count} of {total} rows is tight. {rows}", "{count} of {total} rows are tight. {rows}"), found)
    )


def cell_value(key: str, cell: str) -> Any:
    """A cell as the key's type takes it: `8` is a number for `r` and a text for `version`; lists as in YAML."""
    parsed = parse_config(f"value: {cell}").values.get("value", cell)
    known = KEYS.get(key)
    if known is None or _fits(known.info, parsed) or not _fits(known.info, cell):
        return parsed
    return cell


def _fits(info: Any, value: Any) -> bool:
    # The field's own bounds are left to the check, whose sentence says what they are.
    adapter: TypeAdapter[Any] = TypeAdapter(info.annotation, config=ConfigDict(strict=True))
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _variant(base_text: str, base: Mapping[str, Any], row: Row, taken: dict[Path, int], settings: Settings) -> Variant:
    changes = {key: cell_value(key, cell) for key, cell in row.cells.items() if key != NAME}
    text = with_values(base_text, changes)
    document = parse_config(text)
    differences = [diff for diff in diff_configs(document.values, base, KEYS) if diff.status != "equal"]
    judged = judge(document, settings)
    return Variant(
        row.line,
        row.cells.get(NAME),
        text,
        document.values,
        tuple(diff for diff in differences if diff.key in changes),
        judged.remarks,
        startable(judged, settings),
        _same_place(place_of(document.values, settings), row.line, taken),
    )


def _same_place(place: Path | None, line: int, taken: dict[Path, int]) -> Message | None:
    """One adapter would replace the other, or be refused when it is trained already."""
    if place is None:
        return None
    first = taken.setdefault(place, line)
    if first == line:
        return None
    return Message(N_("It would publish its adapter in the same place as line {line}. Give it a `version` or `knowledge_type` of its own."), {"line": first})  # fmt: skip
