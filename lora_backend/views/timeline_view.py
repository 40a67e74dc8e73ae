"""One step in time, in words and as a table: for who cannot see the picture of its lanes, and below it for all."""

from __future__ import annotations

from lora_backend.formats import seconds_range
from lora_backend.i18n import N_, Message, Plural
from lora_backend.planning.plan import Plan
from lora_backend.planning.timeline import WORKING, Kind, Lane, StepTimeline
from lora_backend.views.table import Cell, Table

KINDS: dict[Kind, str] = {
    "forward": N_("forward"),
    "backward": N_("backward"),
    "transfer": N_("transfer between GPUs"),
    "gather": N_("gathering weights"),
    "sum": N_("summing gradients"),
    "idle": N_("idle"),
}
"""In the order of a legend."""


def works_message(timeline: StepTimeline, lane: Lane) -> Message:
    """How much of a step a device computes."""
    return Message(N_("working {percent}% of a step"), {"percent": _percent(timeline.share(lane, *WORKING))})


def timeline_words(timeline: StepTimeline) -> list[Message]:
    """A sentence for each device."""
    return [
        Message(
            N_("{name}: working {percent}% of a step, idle {idle}%."),
            {
                "name": lane.device.target.label,
                "percent": _percent(timeline.share(lane, *WORKING)),
                "idle": _percent(timeline.share(lane, "idle")),
            },
        )
        for lane in timeline.lanes
    ]


def timeline_note(timeline: StepTimeline, plan: Plan, *, is_one_drawn: bool) -> list[Message]:
    """What the picture is, and what it is not. `is_one_drawn`: of several passes the last alone is in the picture."""
    step = seconds_range(*timeline.step_s)
    said = [
        Message(
            N_("This is an estimate: one step takes {step}, and the picture shows the middle of that range."),
            {"step": step},
        )
    ]
    if plan.strategy == "layer_split":
        said.append(Message(N_("The GPUs work one after the other: while one computes, the others wait.")))
    elif plan.is_shared and len(timeline.lanes) > 1:
        said.append(Message(N_("Every device computes its own batch and waits for the slowest.")))
    if is_one_drawn:
        said.append(
            Message(
                Plural("A step is {count} pass.", "A step is {count} passes in a row; the last one is drawn."),
                {"count": timeline.num_turns},
            )
        )
    return said


def timeline_table(timeline: StepTimeline) -> Table:
    """A row for each device: what part of a step it works, and how long it does what."""
    shown = [kind for kind in KINDS if any(any(lane.seconds(kind)) for lane in timeline.lanes)]
    heads = (Message(N_("Device")), Message(N_("Working")), *(Message(KINDS[kind]) for kind in shown))
    rows = tuple(_row(timeline, lane, shown) for lane in timeline.lanes)
    return Table(heads, rows)


def _row(timeline: StepTimeline, lane: Lane, shown: list[Kind]) -> tuple[Cell, ...]:
    works = f"{_percent(timeline.share(lane, *WORKING))}%"
    return (lane.device.target.label, works, *(_seconds(lane, kind) for kind in shown))


def _seconds(lane: Lane, kind: Kind) -> Message:
    low, high = lane.seconds(kind)
    return seconds_range(low, high) if high > 0 else Message("–")


def _percent(share: float) -> str:
    """Whole percents; what is there, but less than one, is not none."""
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"
