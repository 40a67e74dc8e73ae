"""How a run is doing and what came of it, in a handful of figures: the same for its page, a list of runs and a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lora_backend.errors import ConfigError
from lora_backend.formats import money_range, number, size, two_digits
from lora_backend.i18n import N_, Message, Plural
from lora_backend.installation import Installation
from lora_backend.preflight.gpu_price import gpu_price
from lora_backend.runs.history.gpu_time import gpu_seconds
from lora_backend.runs.record.curves import Column, downsample, points
from lora_backend.runs.record.documents import Answer
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import AFTER_TRAINING, RunState
from lora_backend.verification.rank_documents import RankReport
from lora_backend.verification.verdicts import TONES, deciding, tone
from lora_backend.views.run_view import loss_in_short

SPARK_POINTS = 60
"""Of a small curve beside a figure."""
MOST_GROUPS = 3
"""Groups of questions that have a figure of their own; of more the whole alone is told."""
GROUPS = {"english": N_("English"), "chinese": N_("Chinese"), "ordinary": N_("Ordinary questions"), "": N_("Questions")}
"""Names of groups, those of the demo's questions among them."""
DIGITS = 3
"""Of a loss that stands in a heading: the curve has the others."""


@dataclass(frozen=True)
class Fact:
    """One figure."""

    head: Message
    value: Message
    note: Message | None = None
    """What it is held against, or what it is of."""
    curve: tuple[float, ...] = ()
    """How it went, for a small picture; empty where there is nothing to draw."""


@dataclass(frozen=True)
class Score:
    """Right answers to the questions of one group."""

    group: str
    base: int
    adapter: int
    count: int

    @property
    def name(self) -> Message:
        return group_name(self.group)


def group_name(group: str) -> Message:
    """A group of questions by its name."""
    return Message(GROUPS[group]) if group in GROUPS else plain(group)


def plain(text: object) -> Message:
    """A value that is the same in every language."""
    return Message("{text}", {"text": str(text)})


def scores(answers: Iterable[Answer]) -> list[Score]:
    """By group, in the order in which they were asked; questions without an expected answer count nowhere."""
    rows = [row for row in answers if row.base_correct is not None and row.adapter_correct is not None]
    found = []
    for group in dict.fromkeys(row.group for row in rows):
        own = [row for row in rows if row.group == group]
        right = (sum(bool(row.base_correct) for row in own), sum(bool(row.adapter_correct) for row in own))
        found.append(Score(group, *right, len(own)))
    return found


def going_facts(state: RunState, columns: Mapping[str, Column], answers: Sequence[Answer] = ()) -> list[Fact]:
    """Of a run that goes on: the loss and what is measured beside it, without what this run does not measure; once it is
    trained the answers that are there."""
    facts = [*_loss_facts(columns, is_over=False), *_evaluation_facts(state, columns)]
    if state.stage in AFTER_TRAINING:
        return [*facts, *answer_facts(answers)]
    for name, head, shown in (
        ("tokens_per_s", N_("Tokens/s"), lambda value: f"{value:,.0f}"),
        ("learning_rate", N_("Learning rate"), lambda value: number(value, DIGITS)),
        ("memory_bytes", N_("Memory"), size),
    ):
        values = points(dict(columns), name)[1]
        if len(values):
            facts.append(Fact(Message(head), plain(shown(float(values[-1])))))
    return facts


def result_facts(
    run: RunStore,
    state: RunState,
    columns: Mapping[str, Column],
    answers: Sequence[Answer],
    installation: Installation,
) -> list[Fact]:
    """Of a run that has ended: what was learned, whether the adapter is what was asked for, and what its GPUs cost."""
    facts = [*_loss_facts(columns, is_over=True), *_evaluation_facts(state, columns), *answer_facts(answers)]
    report = run.read_rank_report()
    if report is not None and report.layers:
        facts.append(Fact(Message(N_("Ranks")), Message(TONES[tone(report)]), ranks_message(report)))
    return [*facts, *_cost_facts(gpu_seconds(run, state) / 3600, installation)]


def short_result(run: RunStore, state: RunState) -> list[Message]:
    """What one line of a list has room for: why it failed; else how far the loss came, and right answers."""
    if state.state in ("failed", "lost") and state.message:
        return [state.message]
    said, found = loss_in_short(run), scores(run.read_answers())
    if found:
        values = {"right": sum(one.adapter for one in found), "count": sum(one.count for one in found)}
        said.append(Message(Plural("{right} of {count} answer right", "{right} of {count} answers right"), values))
    return said


def answer_facts(answers: Sequence[Answer]) -> list[Fact]:
    """Right answers with the adapter, beside those of the base model."""
    found = scores(answers)
    if len(found) > MOST_GROUPS or (len(found) == 1 and not found[0].group):
        together = [sum(getattr(one, name) for one in found) for name in ("base", "adapter", "count")]
        return [_answer_fact(Message(N_("Right answers")), *together)]
    return [
        _answer_fact(Message(N_("{group}: right answers"), {"group": one.name}), one.base, one.adapter, one.count)
        for one in found
    ]


def _answer_fact(head: Message, base: int, adapter: int, count: int) -> Fact:
    beside = Message(N_("base model {base} / {count}"), {"base": base, "count": count})
    return Fact(head, plain(f"{adapter} / {count}"), beside)


def _loss_facts(columns: Mapping[str, Column], *, is_over: bool) -> list[Fact]:
    losses = points(dict(columns), "loss")[1]
    if not len(losses):
        return []
    first, last = (number(float(loss), DIGITS) for loss in (losses[0], losses[-1]))
    if len(losses) == 1:
        return [Fact(Message(N_("Loss")), plain(last))]
    if is_over:
        steps = int(points(dict(columns), "loss")[0][-1])
        over = Message(Plural("over {count} step", "over {count} steps"), {"count": steps})
        return [Fact(Message(N_("Loss")), plain(f"{first} → {last}"), over, spark(columns))]
    since = Message(N_("from {first} at the start"), {"first": first})
    return [Fact(Message(N_("Loss")), plain(last), since, spark(columns))]


def spark(columns: Mapping[str, Column], name: str = "loss") -> tuple[float, ...]:
    """A curve in few points, no spike of it lost."""
    return tuple(float(value) for value in downsample(*points(dict(columns), name), SPARK_POINTS)[1])


def _evaluation_facts(state: RunState, columns: Mapping[str, Column]) -> list[Fact]:
    steps, losses = points(dict(columns), "eval_loss")
    if not len(losses):
        return []
    place = int(losses.argmin())
    best = Message(N_("best, at step {step}"), {"step": int(steps[place])})
    if not state.has_ended and place != len(losses) - 1:
        lowest = {"loss": number(float(losses[place]), DIGITS), "step": int(steps[place])}
        best = Message(N_("best {loss}, at step {step}"), lowest)
        place = len(losses) - 1
    return [Fact(Message(N_("Evaluation loss")), plain(number(float(losses[place]), DIGITS)), best, spark(columns, "eval_loss"))]  # fmt: skip


def _cost_facts(hours: float, installation: Installation) -> list[Fact]:
    """The GPU hours, as money where the price of one is known; nothing of a run without a GPU."""
    if not hours:
        return []
    spent = Fact(Message(N_("GPU hours")), plain(two_digits(hours)))
    try:
        price = gpu_price(installation)
    except ConfigError as error:
        return [replace(spent, note=error.message)]
    if price is None:
        return [spent]
    cost, each = hours * price.amount, {"amount": f"{price.amount:g}", "currency": price.currency}
    note = Message(N_("{hours} GPU hours at {amount} {currency}"), {"hours": two_digits(hours), **each})
    return [Fact(Message(N_("Cost")), money_range(cost, cost, price.currency), note)]


def ranks_message(report: RankReport) -> Message:
    """`all 210 layers have rank 16`, or between which ranks they lie."""
    found = Counter(_rank(layer.a_r, layer.layer_r) for layer in deciding(report).layers if layer.state != "missing")
    ranks = sorted(rank for rank in found if rank is not None)
    if not ranks:
        return Message(N_("no rank could be read"))
    values: dict[str, Any] = {"count": sum(found.values()), "rank": ranks[0], "low": ranks[0], "high": ranks[-1]}
    if len(found) == 1:
        return Message(Plural("{count} layer, rank {rank}", "all {count} layers have rank {rank}"), values)
    return Message(Plural("{count} layer, ranks {low} to {high}", "{count} layers, ranks {low} to {high}"), values)


def _rank(of_tensor: int | None, of_layer: int | None) -> int | None:
    return of_layer if of_tensor is None else of_tensor
