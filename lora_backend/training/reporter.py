"""What a training writes into its run while it goes, and how it hears that it shall stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from lora_backend.config.best_figure import BestBy
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_, Message
from lora_backend.modeling.devices import memory_in_use_bytes, memory_table
from lora_backend.modeling.step_memory import StepMemory
from lora_backend.peers.peers import Alone, Peers
from lora_backend.runs.history.alerts import health_message
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.record.attempts import Measured, PeerRows
from lora_backend.runs.record.documents import MetricPoint
from lora_backend.runs.record.numbering import as_planned
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.sample_document import Sample
from lora_backend.training.evaluation_pass import Evaluated
from lora_backend.training.trackers import Trackers
from lora_backend.training_state.best_model import BestEvaluation
from lora_backend.training_state.state import Progress

logger = logging.getLogger(__name__)
STATUS_INTERVAL_S = 0.5
"""`status.json` is flushed to the disk, so not at every step of a fast model."""


class NanLossError(FlightdeckError):
    """Training has diverged: its loss, or the adapter, is no number any more."""

    code = "nan_loss"


def nan_loss(step: int, saved_step: int) -> NanLossError:
    """What to do about a loss that is no number; `saved_step` is the last checkpoint's, 0 without one."""
    if saved_step:
        return NanLossError(
            N_(
                "The loss or the adapter is NaN or infinite at step {step}. Checkpoint {saved} is the last good one: resume from it with a lower `learning_rate` or `max_grad_norm`."
            ),
            step=step,
            saved=saved_step,
        )
    return NanLossError(
        N_(
            "The loss or the adapter is NaN or infinite at step {step}, and no checkpoint was saved before. Start again with a lower `learning_rate` or `max_grad_norm`, and look for bad rows in the data."
        ),
        step=step,
    )


class RunReporter:
    """Keeps `status.json` and `metrics.jsonl` of one run, and knows when it shall end before its last step.

    Of several processes each has one, and asks it the same at the same time: the first decides for all.
    """

    def __init__(
        self, folder: RunStore, max_time_s: float | None = None, began: float | None = None, peers: Peers | None = None
    ) -> None:
        """`began`: when the clock of `max_time_s` began, by `time.monotonic`. `peers`: None where it trains alone."""
        self.folder, self.peers = folder, peers or Alone()
        self.ended_by: str | None = None
        """`stop_request` or `max_time`, once the run shall end before its last step."""
        self.saved_step = 0
        self.memory = StepMemory(own_gpus(self.peers))
        self.num_tokens = 0
        """Tokens that are no padding, trained on since the last point of the curves, by all processes together."""
        self.trackers: Trackers | None = None
        """Get each point as well."""
        self._deadline = None if max_time_s is None else (began or time.monotonic()) + max_time_s
        self._slowest_step_s = self._slowest_save_s = 0.0
        self._counted_since = self._began = self._last_status = self._step_began = time.monotonic()
        self._first_step = self._total_steps = 0
        self._memory_is_written = False

    def begins(self, step: int, total_steps: int, best_step: int | None = None) -> None:
        """Training begins, or goes on, behind `step`. `best_step`: of the best evaluation until there."""
        self._counted_since = self._began = self._step_began = time.monotonic()
        self._first_step, self._total_steps, self.saved_step = step, total_steps, step
        with self.folder.changing_status() as status:
            status.state, status.step, status.total_steps = "running", step, total_steps
            status.attempt.stage, status.attempt.fraction, status.attempt.detail = "first_step", None, None
            status.attempt.best_step = best_step

    def shall_end(self, ahead_s: float = 0.0) -> bool:
        """Whether the run shall end now: it was asked to, or `max_time` would be over within `ahead_s` and a save."""
        self.ended_by = self.peers.agreed(self._why_end(ahead_s))
        return self.ended_by is not None

    def hears_of_end(self) -> bool:
        """The same, as this process alone sees it: for what one does while the others wait. They hear of it when all
        are asked."""
        return self._why_end() is not None

    def _why_end(self, ahead_s: float = 0.0) -> str | None:
        if self.ended_by is None and self.folder.stop_request.exists():
            return "stop_request"
        ready_at = time.monotonic() + ahead_s + 2 * self._slowest_save_s
        if self.ended_by is None and self._deadline is not None and ready_at >= self._deadline:
            return "max_time"
        return self.ended_by

    def shall_end_after_step(self, step: int) -> bool:
        """Whether no further step shall be begun."""
        if not self.shall_end(self._slowest_step_s):
            return False
        logger.info("ending (%s): saving a checkpoint after step %s", self.ended_by, step)
        return True

    def shall_save(self, step: int) -> bool:
        """Whether somebody asked for a checkpoint."""
        if not self.peers.agreed(self.folder.save_request.exists()):
            return False
        logger.info("saving was asked for: checkpoint after step %s", step)
        return True

    def step_done(self, step: int, epoch: float) -> None:
        now, done = time.monotonic(), step - self._first_step
        self._slowest_step_s, self._step_began = max(self._slowest_step_s, now - self._step_began), now
        if done == 1:
            with self.folder.changing_status() as status:
                status.attempt.stage = "training"
            for line in memory_table():
                logger.info("memory after the first step: %s", line)
        if not self._memory_is_written and self.peers.any_has(self.memory.result is not None):
            self._memory_is_written = True
            self._write_measured(step)
        if now - self._last_status >= STATUS_INTERVAL_S or step == self._total_steps:
            self._last_status = now
            eta_s = (now - self._began) / done * (self._total_steps - step)
            with self.folder.changing_status() as status:
                status.step, status.epoch, status.attempt.eta_s = step, epoch, round(eta_s, 1)

    def _write_measured(self, step: int) -> None:
        """The devices of this machine's processes by their ranks, for the plan is of these, each as its own micro-batch needed
        it; and the rows of each."""
        results = self.peers.gathered(self.memory.result)
        found = {rank: one for rank, one in enumerate(results) if one is not None}
        with self.folder.changing_attempt() as attempt:
            if attempt.num_nodes > 1:
                found = {rank: one for rank, one in found.items() if rank < attempt.num_processes} or found
            measured = measured_of(step, found, is_shared=self.peers.size > 1)
            for held in measured.devices:
                held.device = as_planned(held.device, attempt)
            attempt.measured = measured

    def trained(self, step: int, epoch: float, *, loss: float, learning_rate: float, grad_norm: float) -> None:
        """A point of the curves. Raises `NanLossError` behind one whose loss is no number."""
        now = time.monotonic()
        tokens_per_s = round(self.num_tokens / max(now - self._counted_since, 1e-9), 2)
        self.num_tokens, self._counted_since = 0, now
        row = {"loss": _finite(loss), "learning_rate": _finite(learning_rate), "grad_norm": _finite(grad_norm)}
        self._append(step, epoch, row | {"tokens_per_s": tokens_per_s})
        if row["loss"] is None:
            raise nan_loss(step, self.saved_step)

    def evaluated(self, step: int, epoch: float, found: Evaluated, best: BestEvaluation) -> None:
        """`best`: of all evaluations so far."""
        self._append(step, epoch, {"eval_loss": found.loss, "eval_token_accuracy": found.token_accuracy})
        with self.folder.changing_status() as status:
            status.attempt.best_step = best.step
        self._step_began = time.monotonic()

    def sampled(self, step: int, answers: Sequence[tuple[str, str]]) -> None:
        """`answers`: each question with what the adapter says to it now."""
        now = self.folder.clock()
        for question, answer in answers:
            self.folder.append_sample(Sample(step=step, question=question, answer=answer, time=now))
        logger.info("step %s of %s: %s questions answered", step, self._total_steps, len(answers))

    @contextmanager
    def time_out(self) -> Iterator[None]:
        """What the block takes counts neither as time to train nor towards the slowest step."""
        began = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - began
            self._counted_since += spent
            self._began += spent
            self._step_began = time.monotonic()

    def _append(self, step: int, epoch: float, figures: dict[str, float | None]) -> None:
        now = {"memory_bytes": memory_in_use_bytes(), "time": self.folder.clock()}
        point = MetricPoint.model_validate({"step": step, "epoch": epoch, **figures, **now})
        self.folder.append_point(point)
        if self.trackers is not None:
            self.trackers.log(point)
        logger.info("step %s of %s: %s", step, self._total_steps, {"epoch": epoch, **figures})

    def saved(self, step: int, seconds: float) -> None:
        """A checkpoint of `step` is there, whole."""
        self.saved_step = step
        self._slowest_save_s = max(self._slowest_save_s, seconds)
        self._step_began = time.monotonic()
        self.folder.answer_save_request()

    def ends(self, progress: Progress, best: BestEvaluation, adapter_step: int, best_by: BestBy) -> None:
        """Training is over, or stopped; `adapter_step`: the step of the adapter that it ends with."""
        with self.folder.changing_status() as status:  # an end before the last step may come between two looks
            status.step = progress.step
        if best.step is not None and not adapter_step == best.step == progress.step:
            logger.info(
                "the %s was best at step %s (%.4f); the adapter is that of step %s%s",
                best_by.name.text("en"),
                best.step,
                best.value,
                adapter_step,
                ", the last" if adapter_step == progress.step else "",
            )
        if (health := health_of(self.folder)).is_bad:
            logger.warning("%s", health_message(health))

    def write_stopped(self, step: int, max_time_h: float | None) -> None:
        """The outcome of a run that was told to end before its last step, with the reason where nobody asked for it."""
        asked, cause, said = self.folder.read_stop_request(), None, None
        if self.ended_by == "max_time":
            cause = "max_time"
            said = Message(
                N_("`max_time` of {hours} h is over. Resume the run to continue after step {step}."),
                {"hours": max_time_h, "step": step},
            )
        elif asked is not None and asked.signal is not None:
            cause = "signal"
            said = Message(
                N_("The run was stopped by {signal}, with a checkpoint at step {step}. It can be resumed."),
                {"signal": asked.signal, "step": step},
            )
        with self.folder.changing_status() as status:
            status.step = step
            left = status.attempt
            left.outcome, left.outcome_cause, left.outcome_message = "stopped", cause, said


def measured_of(step: int, found: Mapping[int, dict[str, Any]], *, is_shared: bool) -> Measured:
    """As the file says it. `found`: what `StepMemory` has measured in each process that did, by rank."""
    rows = {rank: {name: value for name, value in one.items() if name != "devices"} for rank, one in found.items()}
    first = min(found)
    if not is_shared:
        return Measured(step=step, **found[first])
    devices = [held | {"rank": rank} for rank, one in found.items() for held in one["devices"]]
    peers = [PeerRows(rank=rank, **one) for rank, one in rows.items()]
    return Measured(step=step, **rows[first], peers=peers, devices=devices)


def own_gpus(peers: Peers) -> list[int] | None:
    """The GPU of this process by its number here, where each has one of its own; None: all that it sees."""
    return [torch.cuda.current_device()] if peers.size > 1 and torch.cuda.is_available() else None


def _finite(value: float) -> float | None:
    """JSON has no NaN: None stands for it."""
    return float(value) if math.isfinite(value) else None
