"""What came of a run, in figures: the same ones for the page and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lora_backend.runs.history.loss_health import UNKNOWN, LossHealth, health_of
from lora_backend.runs.record.curves import Column, points, read_columns
from lora_backend.runs.record.run_store import RunStore
from lora_backend.terminal import Tone
from lora_backend.verification.verdicts import tone


@dataclass(frozen=True)
class Outcome:
    """Of one run, as it is now; None where there is nothing to tell (yet)."""

    state: str
    step: int
    total_steps: int | None
    last_loss: float | None
    lowest_eval_loss: float | None
    took_s: float | None
    """From start to end, of a run that has ended."""
    is_consistent: bool | None
    """What the rank check said."""
    ranks: Tone | None
    """How sure that is: `good` only where nothing is in doubt."""
    measured_bytes: int | None
    """Tensors on all devices together, each at its own peak."""
    right_answers: int | None
    num_answers: int
    """Those that could be right or wrong."""
    health: LossHealth = UNKNOWN
    """How its loss went."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"health": self.health.to_json()}


def outcome_of(run: RunStore, curves: Mapping[str, Column] | None = None) -> Outcome:
    """The outcome of `run`; `curves` are its points where they are read already."""
    columns = dict(read_columns(run.metrics_jsonl) if curves is None else curves)
    state, report = run.state(), run.read_rank_report()
    loss, eval_loss = points(columns, "loss")[1], points(columns, "eval_loss")[1]
    measured = run.read_attempt().measured
    held = sum(device.tensors or 0 for device in measured.devices) if measured else 0
    answers = [answer for answer in run.read_answers() if answer.adapter_correct is not None]
    return Outcome(
        state.state,
        state.step,
        state.total_steps,
        float(loss[-1]) if len(loss) else None,
        float(eval_loss.min()) if len(eval_loss) else None,
        _between(state.started_at, state.ended_at),
        report.is_consistent if report else None,
        tone(report) if report else None,
        int(held) or None,
        sum(bool(answer.adapter_correct) for answer in answers) if answers else None,
        len(answers),
        health_of(run),
    )


def _between(start: object, end: object) -> float | None:
    return float(end - start) if isinstance(start, float) and isinstance(end, float) else None
