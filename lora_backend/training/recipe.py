"""A training run from its config to its adapter: a list of stages over what they hand on to one another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, set_seed

from lora_backend.config.schema import TrainingConfig
from lora_backend.i18n import Message, Plural
from lora_backend.modeling.adapter import attach_adapter, save_adapter
from lora_backend.modeling.device_map import loaded_map
from lora_backend.modeling.devices import memory_table, refuse_untrainable
from lora_backend.modeling.load import load_model, load_tokenizer, vocabulary_size
from lora_backend.modeling.profiling import profile_for
from lora_backend.preflight.expected_memory import keep_expected
from lora_backend.preflight.placement import refuse_host_memory
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.checkpoints.manifest import ADAPTER
from lora_backend.runs.checkpoints.starts import spans_of
from lora_backend.runs.history.publisher import Publisher
from lora_backend.runs.processes.own_lease import leased
from lora_backend.runs.record.numbering import as_planned
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.surroundings import surroundings_of
from lora_backend.tokens.end_of_turn import EndOfTurn, save_stops, settle_stops
from lora_backend.training.answers import answer_all, answer_questions
from lora_backend.training.assembly import Data, assemble, fresh_state, try_longest_batch
from lora_backend.training.data import StartRows, label_sets, read_data, refuse_rows_beyond_positions
from lora_backend.training.loop import fit
from lora_backend.training.reporter import RunReporter
from lora_backend.training.run_ranks import check_attached, check_saved
from lora_backend.training.start_facts import (
    device_map_of,
    log_reproducibility,
    plan_here,
    planned_precision,
    write_start,
)
from lora_backend.training_state.randomness import deterministic_algorithms
from lora_backend.training_state.resume_point import Resume, load_adapter, load_state, prepare_start
from lora_backend.verification.passport import write_passport
from lora_backend.verification.rank_documents import RankReport

logger = logging.getLogger(__name__)


@dataclass
class RunContext:
    """What the stages of one start work on; each finds what those before it have left here."""

    resolved: ResolvedConfig
    """The config with what it names, found once for the whole start."""
    folder: RunStore
    dataloader: DataLoader[Any] | None
    """The caller's own, in the place of a data set."""
    publisher: Publisher
    precision: str
    held: ExitStack
    """Closed at the end: the leases of the devices."""
    began: float
    """By `time.monotonic`: where the clock of `max_time` begins."""
    resume: Resume | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    end: EndOfTurn | None = None
    """The mark at which what is generated stops."""
    questions: list[dict[str, Any]] = field(default_factory=list)
    rows: StartRows = field(default_factory=StartRows)
    base_answers: Sequence[str] | None = None
    adapted: PeftModel | None = None
    report: RankReport | None = None
    """Of the adapter as it was attached, or loaded from a checkpoint."""
    last_step: int = 0
    ended_early: bool = False
    """Something of what was asked for is still to be done: no stage follows."""

    @property
    def config(self) -> TrainingConfig:
        return self.resolved.config

    @property
    def model(self) -> PeftModel:
        """Once the adapter is attached."""
        assert self.adapted is not None
        return self.adapted


def train(resolved: ResolvedConfig, folder: RunStore, dataloader: DataLoader[Any] | None = None) -> PeftModel | None:
    """Load → attach → check ranks → train → save → answer. Writes all of it into `folder`; None where a stop came first.

    Trains on `dataloader` where one is given, else on the config's data set. Raises one of our errors with a sentence
    for whatever the config, the data or the machine does not allow. Goes on from the checkpoint that the newest
    attempt names. The adapter is published below the output roots only, unless the config's policy lets a person name any
    folder, in this very process. No file of the run says so: a run's folder may come from anywhere.
    """
    try:
        with deterministic_algorithms(resolved.config.deterministic), ExitStack() as held:
            model = _train(resolved, folder, dataloader, held)
    except Exception:
        keep_expected(resolved, folder, profile_for)
        raise
    keep_expected(resolved, folder, profile_for)
    return model


def _train(
    resolved: ResolvedConfig, folder: RunStore, dataloader: DataLoader[Any] | None, held: ExitStack
) -> PeftModel | None:
    config, began = resolved.config, time.monotonic()
    precision = planned_precision(config, folder)
    refuse_untrainable(precision)
    publisher = Publisher(folder, resolved.installation, config.model_dump(), resolved.policy.is_bound_in_publishing)
    publisher.judged()  # what refuses now would refuse at the end
    run = RunContext(resolved, folder, dataloader, publisher, precision, held, began)
    for stage in STAGES:
        if not stage.is_wanted(run):
            continue
        if not run_stage(folder, stage.name, partial(stage.act, run)):
            return None
        if run.ended_early:
            return run.model
    _log_memory("at the end")
    return run.model


def run_stage(folder: RunStore, name: str, act: Callable[[], object]) -> bool:
    """Say in status and log which stage the run is at and how long it took. False, and the run is stopped, where a stop
    was asked for before it and there is nothing to save yet."""
    with folder.changing_status() as status:
        now = status.attempt
        if folder.stop_request.exists() and name in BEFORE_TRAINING:
            now.outcome = "stopped"
            return False
        now.stage, now.eta_s, now.fraction, now.detail = name, None, None, None
    logger.info("stage %s", name)
    began = time.monotonic()
    act()
    logger.info("stage %s took %.1f s", name, time.monotonic() - began)
    return True


def read(run: RunContext) -> None:
    """The rows, and the checkpoint to go on from."""
    config, folder = run.config, run.folder
    data = read_data(run.resolved, folder, has_batches=run.dataloader is not None)
    run.resume = prepare_start(folder, config)
    write_start(run.resolved, folder, data, run.precision)
    log_reproducibility()
    set_seed(config.seed)
    if run.dataloader is None or config.questions or config.eval_dataset:
        run.tokenizer = load_tokenizer(config.model_name)
    if run.tokenizer is not None:
        run.rows = label_sets(data, config, run.tokenizer)
    run.questions = data.questions


def load(run: RunContext) -> None:
    """The base model on its devices, then the adapter on it, then the proof that every layer has its rank."""
    config, folder = run.config, run.folder
    plan_here(run.resolved, folder)
    run.held.enter_context(leased(folder, run.resolved.installation))
    base = load_model(
        config.model_copy(update={"precision": run.precision}), device_map_of(config, run.resolved.installation, folder)
    )
    refuse_rows_beyond_positions(base, run.rows)
    if run.tokenizer is not None and run.dataloader is None:
        run.end = settle_stops(base, run.tokenizer, in_chats=run.rows.are_chats)
    # These starts take their share out of the base weights, and an adapter switched off does not put it back.
    if run.questions and run.tokenizer and config.init_lora_weights in ("pissa", "olora"):
        run.base_answers = answer_all(base, run.tokenizer, run.questions)
    loaded = loaded_map(base)
    with folder.changing_attempt() as attempt:
        attempt.loaded_device_map = {module: as_planned(place, attempt) for module, place in loaded.items()}
        attempt.vocab_size = vocabulary_size(base)
    run.adapted = attach_adapter(base, config)
    refuse_host_memory({str(place) for place in loaded.values()})
    _log_memory("after load")
    run.report = check_attached(run.adapted, config, folder)


def train_adapter(run: RunContext) -> None:
    """Until the last step, or until the run shall end before it."""
    config, folder = run.config, run.folder
    reporter = RunReporter(folder, config.max_time and config.max_time * 3600, run.began)
    if run.resume is not None:
        load_adapter(run.model, run.resume.path)
        run.report = check_attached(run.model, config, folder, run.resume.path / ADAPTER)
    data = Data(run.rows.train_rows, run.rows.eval_rows, run.tokenizer, run.dataloader, run.rows.order)
    training = assemble(run.model, config, run.precision, data)
    state = fresh_state(run.model, training)
    if run.resume is not None:
        load_state(state, run.resume, config)
    with folder.changing_status() as status:
        status.attempt.stage = "first_step"
    try_longest_batch(training, state, data)
    fit(training, state, reporter)
    run.rows.log_counts()
    reporter.ends(state.progress)
    folder.save_request.unlink(missing_ok=True)
    run.last_step = state.progress.step
    is_whole = run.last_step >= training.batches.total_steps and not state.progress.evaluation_pending
    run.ended_early = reporter.ended_by is not None and not is_whole
    if run.ended_early:
        reporter.write_stopped(run.last_step, config.max_time)


def save(run: RunContext) -> None:
    """The adapter into the run's folder, proved once more, and to the place where it is published."""
    save_adapter(run.model, run.folder.adapter)
    if run.end is not None and run.tokenizer is not None:
        save_stops(run.end, run.tokenizer, run.folder.adapter)
    assert run.report is not None
    saved = check_saved(run.model, run.config, run.folder, run.report.actual_r_values)
    run.folder.write_rank_report(run.report.but(saved=saved))
    _write_passport(run, run.report.actual_r_values)
    run.publisher.publish_or_say_why()


def answer(run: RunContext) -> None:
    """The config's questions, by the base model and by the adapter."""
    folder, questions = run.folder, run.questions
    assert run.tokenizer is not None

    def answered(part: float) -> None:
        with folder.changing_status() as status:
            status.attempt.fraction = part

    rows = answer_questions(run.model, run.tokenizer, questions, answered, run.base_answers, folder.stop_request.exists)
    folder.write_answers(rows)
    if len(rows) < len(questions) and folder.read_status().attempt.outcome_message is None:
        left = Message(
            Plural(
                "The stop came when the adapter was saved; {count} of {questions} was answered.",
                "The stop came when the adapter was saved; {count} of {questions} were answered.",
            ),
            {
                "count": len(rows),
                "questions": Message(Plural("{count} question", "{count} questions"), {"count": len(questions)}),
            },
        )
        with folder.changing_status() as status:
            status.attempt.outcome, status.attempt.outcome_message = "finished", left


class Stage(NamedTuple):
    """A part of a run, under the name that its status shows."""

    name: str
    act: Callable[[RunContext], None]
    is_wanted: Callable[[RunContext], bool] = lambda _: True


STAGES = (
    Stage("data", read),
    Stage("loading", load),
    Stage("training", train_adapter),
    Stage("saving", save),
    Stage("answering", answer, lambda run: bool(run.questions and run.tokenizer)),
)
BEFORE_TRAINING = ("preparing", "data", "loading", "training")
"""Stages before which a stop ends the run; `preparing` is the demo's own."""


def _write_passport(run: RunContext, ranks: Mapping[str, Any]) -> None:
    made_by = {attempt.number: surroundings_of(attempt) for attempt in run.folder.read_attempts()}
    starts = [{**made_by[span.number].to_json(), **span.to_json()} for span in spans_of(run.folder, upto=run.last_step)]
    write_passport(run.folder.adapter, config=run.config.model_dump(), starts=starts, ranks=ranks)


def _log_memory(when: str) -> None:
    for line in memory_table():
        logger.info("memory %s: %s", when, line)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
