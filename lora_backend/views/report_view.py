"""What a report of a run says, section by section, before anybody makes a page of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.diff import ABSENT, diff_paths, is_difference
from lora_backend.config.schema import KEYS, REQUIRED
from lora_backend.config.secrets import holds_secret, redact
from lora_backend.errors import FlightdeckError
from lora_backend.formats import duration, number, size, when
from lora_backend.i18n import N_, Message, Plural
from lora_backend.installation import Installation
from lora_backend.preflight.plan_vs_measured import compare
from lora_backend.runs.history.alerts import health_message
from lora_backend.runs.history.checkpoint_list import best_of, list_checkpoints
from lora_backend.runs.history.gpu_time import start_seconds
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.curves import Column, points
from lora_backend.runs.record.documents import Exit
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.runs.record.surroundings import last_start
from lora_backend.verification.verdicts import deciding, verdict
from lora_backend.views.answers_view import answers_table
from lora_backend.views.rank_view import LayerRow, rank_table
from lora_backend.views.report_charts import Line, chart_svg
from lora_backend.views.result_view import plain, scores
from lora_backend.views.run_view import best_message, value_text
from lora_backend.views.state_view import state_message
from lora_backend.views.table import Table

MOST_ANSWERS, MOST_LAYERS = 200, 400
"""Rows of a table: a report is read, not searched."""


@dataclass(frozen=True)
class Block:
    """A part of a section: sentences, a picture, a table or a text, each where there is one."""

    sentences: tuple[Message, ...] = ()
    svg: str | None = None
    legend: tuple[Message, ...] = ()
    """Names of the picture's curves, in their order."""
    table: Table | None = None
    text: str | None = None
    folded: Message | None = None
    """What stands in its place until it is opened."""


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    title: Message
    blocks: tuple[Block, ...]


def report_sections(
    run: RunStore, state: RunState, columns: Mapping[str, Column], installation: Installation, language: str
) -> list[Section]:
    """All that there is something to say of. `language`: of what is heard in the place of pictures."""
    made: Sequence[tuple[str, Callable[[], Iterator[Block]]]] = (
        (N_("Curves"), lambda: _curves(columns, language)),
        (N_("Answers"), lambda: _answers(run)),
        (N_("Config"), lambda: _config(run)),
        (N_("Ranks"), lambda: _ranks(run)),
        (N_("Checkpoints"), lambda: _checkpoints(run, columns)),
        (N_("Memory"), lambda: _memory(run, installation)),
        (N_("Starts of this run"), lambda: _starts(run, state)),
        (N_("Versions"), lambda: _versions(run)),
    )
    found = [Section(Message(title), tuple(blocks())) for title, blocks in made]
    return [section for section in found if section.blocks]


def what_went_wrong(run: RunStore, state: RunState) -> list[Message]:
    """Why it ended before it was done, and a loss that did not go well."""
    found = [one for one in (state.message, state.remedy) if one is not None]
    health = health_of(run)
    return [*found, health_message(health)] if health.is_told_beside(state.state) else found


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]], fills: Sequence[Any] = ()) -> Table:
    return Table(tuple(map(Message, heads)), tuple(map(tuple, rows)), tuple(fills))


def _curves(columns: Mapping[str, Column], language: str) -> Iterator[Block]:
    """The loss first, then what was measured beside it."""
    found = dict(columns)
    names = [
        (name, title) for name, title in (("loss", N_("Loss")), ("eval_loss", N_("Evaluation loss")))
        if len(points(found, name)[0])
    ]  # fmt: skip
    if svg := chart_svg(
        Message(N_("Loss by step")).text(language), [Line(name, *points(found, name)) for name, _ in names], 260
    ):
        yield Block((Message(N_("Loss by step")),), svg, tuple(Message(title) for _, title in names))
    for name, title, scale in (
        ("learning_rate", N_("Learning rate"), 1.0),
        ("tokens_per_s", N_("Tokens/s"), 1.0),
        ("grad_norm", N_("Gradient norm"), 1.0),
        ("memory_bytes", N_("Memory, GiB"), 2.0**30),
    ):
        x, y = points(found, name)
        if svg := chart_svg(Message(title).text(language), [Line(name, x, y / scale)], 150):
            yield Block((Message(title),), svg)


def _answers(run: RunStore) -> Iterator[Block]:
    answers = [answer for answer in run.read_answers() if answer.question]
    if not answers:
        return
    if found := scores(answers):
        rows = [(one.name, f"{one.base} / {one.count}", f"{one.adapter} / {one.count}") for one in found]
        yield Block(table=_table((N_("Right answers"), N_("Base model"), N_("With the adapter")), rows))
    shown = answers[:MOST_ANSWERS]
    title = Message(Plural("{count} question", "{count} questions"), {"count": len(shown)})
    yield Block(table=answers_table(shown, whole=True), folded=title)


def _config(run: RunStore) -> Iterator[Block]:
    """What is not the default, then the file as it was written."""
    config = {key: value for key, value in run.config_as_changed().items() if not holds_secret(key, value)}
    defaults = {key: KEYS[key].default for key in KEYS}
    rows = [
        (row.key, value_text(row.top_key, row.value, 120), value_text(row.top_key, _or_none(row.base), 120))
        for row in diff_paths(config, defaults, KEYS)
        if row.value is not ABSENT and is_difference(row, defaults)
    ]
    if rows:
        yield Block(
            (Message(N_("What is not the default:")),), table=_table((N_("Key"), N_("Value"), N_("Default")), rows)
        )
    yield Block(text=redact(run.config_text() or dump_yaml(config)), folded=Message(N_("The config as it was written")))


def _or_none(default: Any) -> Any:
    return None if default is ABSENT or default is REQUIRED else default


def _ranks(run: RunStore) -> Iterator[Block]:
    report = run.read_rank_report()
    if report is None:
        return
    decides = deciding(report)
    yield Block((verdict(decides),))
    if decides.layers:
        found = Counter(layer.a_r for layer in decides.layers)
        rows = [("–" if rank is None else rank, count) for rank, count in sorted(found.items(), key=lambda one: one[0] or 0)]  # fmt: skip
        yield Block(table=_table((N_("Rank"), N_("Layers")), rows))
        layers = rank_table([LayerRow(layer) for layer in decides.layers[:MOST_LAYERS]])
        yield Block(table=layers, folded=Message(N_("Every layer")))


def _checkpoints(run: RunStore, columns: Mapping[str, Column]) -> Iterator[Block]:
    found = list_checkpoints(run, columns)
    if not found:
        return
    best = best_of(run, found)
    rows = [
        (
            f"{one.step} ★" if best and best.checkpoint == one else one.step,
            number(one.loss), number(one.eval_loss), size(one.size_bytes), when(one.saved_at),
        )
        for one in found
    ]  # fmt: skip
    heads = (N_("Step"), N_("Loss"), N_("Evaluation loss"), N_("Size"), N_("Saved at"))
    yield Block((best_message(best),) if best else (), table=_table(heads, rows))


def _memory(run: RunStore, installation: Installation) -> Iterator[Block]:
    """Planned beside measured, for each device."""
    try:
        found = compare(run.read_attempt(), run.config_as_changed(), installation)
    except (FlightdeckError, OSError):
        return
    rows = [
        (
            _device(one.device, one.rank), size(one.planned_at_most), size(one.expected_bytes), size(one.measured_bytes),
            size(one.process_bytes),
        )
        for one in found
    ]  # fmt: skip
    if rows:
        heads = (
            N_("Device"),
            N_("Planned at most"),
            N_("Planned for the measured step"),
            N_("Measured tensors"),
            N_("Whole process"),
        )
        yield Block(table=_table(heads, rows))


def _device(device: int | str, rank: int | None) -> Message:
    name = Message(N_("CPU")) if device == "cpu" else plain(f"GPU {device}")
    return name if rank is None else Message(N_("{device}, process {rank}"), {"device": name, "rank": rank})


def _starts(run: RunStore, state: RunState) -> Iterator[Block]:
    attempts = run.read_attempts()
    rows = [
        (
            one.number,
            when(one.time, "%Y-%m-%d %H:%M:%S"),
            one.from_step or 0,
            ", ".join(f"{key}: {value_text(key, value)}" for key, value in one.changes.items() if not holds_secret(key, value)) or "–",
            *_end(run, one, state if one is attempts[-1] else None),
        )
        for one in attempts
    ]  # fmt: skip
    if rows:
        heads = (N_("Start"), N_("When"), N_("From step"), N_("Changed settings"), N_("How it ended"), N_("Time"))
        yield Block(table=_table(heads, rows))


def _end(run: RunStore, attempt: Attempt, now: RunState | None) -> tuple[Message, Message]:
    """The state at its end, and how long it took."""
    took = duration(start_seconds(run, attempt, now))
    if now is not None:
        return state_message(now.state, health_of(run)), took
    data = read_json(run.attempt_exit_json(attempt.number))
    ended = None if data is None else Exit.read(data)
    return (state_message(ended.state) if ended else plain("–")), took


def _versions(run: RunStore) -> Iterator[Block]:
    made = last_start(run)
    rows: list[tuple[Any, Any]] = [
        (name, version) for name, version in sorted((made.versions or {}).items()) if version
    ]
    rows += [("Python", made.python)] if made.python else []
    rows += [(Message(N_("Platform")), made.platform)] if made.platform else []
    rows += [(Message(N_("Commit of the code")), made.code.commit)] if made.code else []
    rows += [(Message(N_("Hash of the data")), made.data_sha256)] if made.data_sha256 else []
    weights = made.base.weights_sha256 if made.base else None
    rows += [(Message(N_("Hash of the base model's weights (sampled)")), weights)] if weights else []
    if rows:
        yield Block(table=_table((N_("What"), N_("Version")), rows))
