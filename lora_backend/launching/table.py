"""From a table, one config becomes many runs: what each will be, and their launch."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lora_backend import outside
from lora_backend.config.check import CheckResult
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.diff import DiffRow, diff_configs
from lora_backend.config.schema import KEYS
from lora_backend.errors import ConfigError, FlightdeckError
from lora_backend.i18n import N_, Message, Plural
from lora_backend.installation import Installation
from lora_backend.launching.launch import launch
from lora_backend.launching.meeting import refuse_without_meeting
from lora_backend.launching.requests import StartOptions, StartRequest
from lora_backend.launching.table_rows import NAME, Row, cell_value
from lora_backend.os_errors import in_words
from lora_backend.planning.report import verdict
from lora_backend.preflight.data_asked import Count
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.preflight.placement import TightError, plan_start
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.preflight.start_plan import in_doubt
from lora_backend.preflight.startable import Judged, Startable, judge, startable
from lora_backend.runs.checkpoints.publication import place_of
from lora_backend.runs.record.run_labels import write_labels
from lora_backend.runs.record.run_store import RunStore

NAMED = 3
"""Rows that a question about all of them names."""
MAX_WRITTEN = 4 * 2**20
"""Characters of all configs that a table makes; each is written, read and checked: a minute's work at most."""
AT_ONCE, ROW_COSTS, CELL_COSTS = 32_000, 500, 20
"""Characters that are checked in a third of a second, and as how many a row and a cell count whatever is in them."""


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
    """What the check of one config cannot see: it is for several machines, or another row would publish to the same place."""

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
    run: RunStore | None
    error: Message | None = None


Once = Callable[[Variant, Callable[[], str]], str]
"""Calls the launch of a variant, unless that was done before; the id of its run."""


def preview(base_text: str, rows: Sequence[Row], installation: Installation, policy: PathPolicy) -> list[Variant]:
    """What each row will be: the base config with the row's cells, how it differs, and what the check says of it."""
    base = parse_config(base_text)
    if not base.is_readable:
        raise ConfigError(N_("The config cannot be read: {reason}"), reason=base.problems[0].message)
    if len(rows) * len(base_text) > MAX_WRITTEN:
        raise ConfigError(
            Plural(
                "{count} row of a config of {size} characters are more than {limit} together. Take fewer rows, or comments out of the config.",
                "{count} rows of a config of {size} characters are more than {limit} together. Take fewer rows, or comments out of the config.",
            ),
            count=len(rows),
            size=len(base_text),
            limit=MAX_WRITTEN,
        )
    taken: dict[Path, int] = {}
    found = []
    for done, row in enumerate(rows):
        outside.progress(done / len(rows))
        found.append(_variant(base_text, base.values, row, taken, installation, policy))
    return found


def preview_apart(
    base_text: str, rows: Sequence[Row], installation: Installation, on_progress: Callable[[float], None] | None = None
) -> list[Variant]:
    """The same for a page, bound to the browser's roots: what takes longer than a moment is done in a process of its
    own, so that other sessions go on."""
    num_cells = sum(len(row.cells) for row in rows)
    if len(rows) * (len(base_text) + ROW_COSTS) + num_cells * CELL_COSTS <= AT_ONCE:
        return preview(base_text, rows, installation, BrowserRoots(installation))
    cells = [(row.line, dict(row.cells)) for row in rows]
    found = outside.call(f"{__name__}:previewed", base_text, cells, installation.to_json(), on_progress=on_progress)
    variants: list[Variant] = pickle.loads(base64.b64decode(found))  # noqa: S301 - a process of ours wrote it
    return variants


def previewed(base_text: str, rows: Sequence[tuple[int, Mapping[str, str]]], places: Mapping[str, Any]) -> str:
    """`preview` as the other process answers it."""
    installation = Installation.from_json(places)
    variants = preview(base_text, [Row(line, cells) for line, cells in rows], installation, BrowserRoots(installation))
    return base64.b64encode(pickle.dumps(variants)).decode()


class TableLaunch:
    """The launch of a table's rows: each is resolved once, whether it is asked about or started."""

    def __init__(
        self, installation: Installation, policy: PathPolicy, trace: Trace, count: Count | None = None
    ) -> None:
        self.installation = installation
        self.policy = policy
        self.trace = trace
        self.count = count
        self._resolved: dict[int, ResolvedConfig] = {}

    def start_all(
        self,
        variants: Sequence[Variant],
        options: StartOptions | None = None,
        *,
        tags: Sequence[str] = (),
        once: Once = lambda _, launch: launch(),
        progress: Callable[[int], None] = lambda _: None,
    ) -> list[Launched]:
        """Launch every variant; the first starts where its GPUs are free, the others wait.

        Raises `ConfigError`, and launches nothing, where one of them cannot start; `TightError` likewise, which asks
        once for all. One that is refused by its plan or its data leaves the others as they are. `tags` go to every run;
        `once` sees to it that a row which was launched before is not launched again; `progress` hears how many are done.
        """
        options = options or StartOptions()
        bad = [variant.line for variant in variants if not variant.can_start(anyway=options.accepts == "over")]
        if bad:
            raise ConfigError(
                N_("Nothing was started. Fix line {lines} of the table first."), lines=", ".join(map(str, bad))
            )
        if options.accepts == "fits":
            self._refuse_tight(variants)
        launched = []
        for done, variant in enumerate(variants):
            progress(done)
            try:
                run_id = once(variant, partial(self._launch, variant, options, tags))
                launched.append(Launched(variant, RunStore(self.installation.runs / run_id, self.installation.clock)))
            except FlightdeckError as error:
                launched.append(Launched(variant, None, error.message))
            except OSError as error:  # a full disk; the runs before go on
                launched.append(Launched(variant, None, in_words(error, self.installation.workspace).message))
        progress(len(variants))
        return launched

    def _launch(self, variant: Variant, options: StartOptions, tags: Sequence[str]) -> str:
        run = launch(StartRequest(self._resolve(variant), options, variant.name), self.trace, self.count)
        write_labels(run.path, tags=tags)
        return run.id

    def _resolve(self, variant: Variant) -> ResolvedConfig:
        if variant.line not in self._resolved:
            self._resolved[variant.line] = resolve(parse_config(variant.text), self.installation, self.policy)
        return self._resolved[variant.line]

    def _refuse_tight(self, variants: Sequence[Variant]) -> None:
        """Raise `TightError` naming the rows whose plan is tight, as it would be if each were the first to start."""
        said: dict[int, Message] = {}
        for variant in variants:
            try:
                resolved = self._resolve(variant)
                resolved.refuse_escapes()
                doubted = in_doubt(plan_start(resolved, self.trace), self.installation)
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
        said_of_all = Plural("{count} of {total} rows is tight. {rows}", "{count} of {total} rows are tight. {rows}")
        raise TightError(Message(said_of_all, found))


def _variant(
    base_text: str,
    base: Mapping[str, Any],
    row: Row,
    taken: dict[Path, int],
    installation: Installation,
    policy: PathPolicy,
) -> Variant:
    changes = {key: cell_value(key, cell) for key, cell in row.cells.items() if key != NAME}
    text = with_values(base_text, changes)
    document = parse_config(text)
    differences = [diff for diff in diff_configs(document.values, base, KEYS) if diff.status != "equal"]
    judged = judge(resolve(document, installation, policy))
    return Variant(
        row.line,
        row.cells.get(NAME),
        text,
        document.values,
        tuple(diff for diff in differences if diff.key in changes),
        judged.remarks,
        startable(judged),
        _several_machines(judged) or _same_place(place_of(document.values, installation), row.line, taken),
    )


def _several_machines(judged: Judged) -> Message | None:
    """A start of several machines asks for a command on each of them, so it is none of many."""
    if not judged.result.is_valid:
        return None
    try:
        refuse_without_meeting(judged.resolved.config.num_nodes, None)
    except ConfigError as error:
        return error.message
    return None


def _same_place(place: Path | None, line: int, taken: dict[Path, int]) -> Message | None:
    """One adapter would replace the other, or be refused when it is trained already."""
    if place is None:
        return None
    first = taken.setdefault(place, line)
    if first == line:
        return None
    return Message(
        N_(
            "It would publish its adapter to the same place as line {line}. Give it its own `version` or `knowledge_type`."
        ),
        {"line": first},
    )
