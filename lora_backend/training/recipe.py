"""A training run from its config to its adapter: a list of stages over what they hand on to one another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import set_seed

from lora_backend.config.rules.fsdp_keys import why_not_fsdp
from lora_backend.errors import ConfigError
from lora_backend.i18n import Message, Plural
from lora_backend.modeling.adapter import attach_adapter, save_adapter
from lora_backend.modeling.compiled_parts import put_off_compiled
from lora_backend.modeling.device_map import DeviceMap, loaded_map
from lora_backend.modeling.devices import memory_table, refuse_untrainable
from lora_backend.modeling.load import load_model, load_tokenizer, vocabulary_size
from lora_backend.modeling.profiling import profile_for
from lora_backend.peers.gradients import share_first_weights
from lora_backend.peers.peers import Alone, Peers
from lora_backend.peers.sharding import share_out, sharers_of
from lora_backend.peers.turns import in_turn
from lora_backend.preflight.expected_memory import expected_here, keep_expected
from lora_backend.preflight.placement import refuse_host_memory
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.checkpoints.manifest import ADAPTER
from lora_backend.runs.checkpoints.starts import spans_of
from lora_backend.runs.history.publisher import Publisher
from lora_backend.runs.processes.own_lease import leased
from lora_backend.runs.record.attempts import Attempt, HeldTensors
from lora_backend.runs.record.numbering import as_planned
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.silent_store import SilentStore
from lora_backend.runs.record.surroundings import surroundings_of
from lora_backend.tokens.end_of_turn import save_stops, settle_stops
from lora_backend.training.answer_progress import Answered
from lora_backend.training.answers import answer_all, answer_questions
from lora_backend.training.assembly import Data, assemble, fresh_state, try_longest_batch
from lora_backend.training.data import label_sets, read_data, refuse_rows_beyond_positions
from lora_backend.training.first_weights import begin_with
from lora_backend.training.loop import fit
from lora_backend.training.reporter import RunReporter
from lora_backend.training.run_context import RunContext, run_stage
from lora_backend.training.run_ranks import check_attached, check_saved
from lora_backend.training.start_facts import (
    device_map_of,
    log_reproducibility,
    own_device,
    plan_here,
    planned_precision,
    write_start,
)
from lora_backend.training.trackers import following
from lora_backend.training.training_end import end_training
from lora_backend.training_state.randomness import deterministic_algorithms
from lora_backend.training_state.resume_point import load_adapter, load_state, prepared_by_first
from lora_backend.verification.passport import write_passport

logger = logging.getLogger(__name__)


def train(
    resolved: ResolvedConfig,
    folder: RunStore,
    dataloader: DataLoader[Any] | None = None,
    peers: Peers | None = None,
) -> PeftModel | None:
    """Load → attach → check ranks → train → save → answer. Writes all of it into `folder`; None where a stop came first.

    Trains on `dataloader` where one is given, else on the config's data set. Raises one of our errors with a sentence
    for whatever the config, the data or the machine does not allow. Goes on from the checkpoint that the newest
    attempt names. The adapter is published below the output roots only, unless the config's policy lets a person name any
    folder, in this very process. No file of the run says so: a run's folder may come from anywhere.

    `peers`: several processes that each call this train one adapter together; None: this one alone. They end together,
    and an error that one of them has is raised in that one: whoever started them ends the others.
    """
    peers = peers or Alone()
    assert dataloader is None or peers.size == 1, "a caller's batches are not dealt out"
    if not peers.is_first:
        folder = SilentStore(folder.path, folder.clock)
    try:
        with deterministic_algorithms(resolved.config.deterministic), ExitStack() as held:
            model = _train(resolved, folder, dataloader, peers, held)
    except Exception:
        if peers.is_first:  # the others may be elsewhere
            keep_expected(folder, _expected(resolved, folder.read_attempt(), peers))
        raise
    attempt = peers.agreed(folder.read_attempt())
    found = peers.gathered(_expected(resolved, attempt, peers))
    keep_expected(folder, [held for of_rank in found for held in of_rank])
    peers.wait_for_all()
    return model


def _expected(resolved: ResolvedConfig, attempt: Attempt, peers: Peers) -> list[HeldTensors]:
    """For the very pass that this process measured."""
    return expected_here(resolved, attempt, profile_for, peers.rank if peers.size > 1 else None)


def _train(
    resolved: ResolvedConfig, folder: RunStore, dataloader: DataLoader[Any] | None, peers: Peers, held: ExitStack
) -> PeftModel | None:
    config, began = resolved.config, time.monotonic()
    precision = planned_precision(config, folder)
    refuse_untrainable(precision)
    publisher = Publisher(folder, resolved.installation, config.model_dump(), resolved.policy.is_bound_in_publishing)
    if peers.is_first:
        publisher.judged()  # what refuses now would refuse at the end
    run = RunContext(resolved, folder, dataloader, peers, publisher, precision, held, began)
    for stage in STAGES:
        if not stage.is_wanted(run) or (stage.is_of_first and not peers.is_first):
            continue
        if not run_stage(folder, stage.name, partial(stage.act, run), None if stage.is_of_first else peers):
            return None
        if run.trained.is_unfinished:
            return run.model
    _log_memory("at the end")
    return run.model


def read(run: RunContext) -> None:
    """The rows, and the checkpoint to go on from."""
    config, folder = run.config, run.folder
    data = read_data(run.resolved, folder, has_batches=run.dataloader is not None)
    run.peers.wait_for_all()  # each has held its rows against the starts before, and the first writes down this one
    run.resume = prepared_by_first(folder, config, run.peers, run.resolved.installation.peer)
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
    if run.is_shared_out and (reason := why_not_fsdp(config.model_dump())) is not None:
        raise ConfigError("{reason}", reason=reason)
    plan_here(run.resolved, folder)
    if run.peers.is_first:
        run.held.enter_context(leased(folder, run.resolved.installation))
    with in_turn(run.peers, run.resolved.installation.peer) if run.is_shared_out else nullcontext():
        loaded = _build(run)
    with folder.changing_attempt() as attempt:
        attempt.loaded_device_map = {module: as_planned(place, attempt) for module, place in loaded.items()}
        attempt.vocab_size = vocabulary_size(run.model.get_base_model())
    share_first_weights([one for one in run.model.parameters() if one.requires_grad], run.peers)
    refuse_host_memory({str(place) for place in loaded.values()})
    _log_memory("after load")
    run.report = check_attached(run.model, config, folder)


def _build(run: RunContext) -> DeviceMap:
    """Base model and adapter; returns where its modules are. Under fsdp it comes together in host memory, of which this
    process then keeps its part."""
    config, folder, installation = run.config, run.folder, run.resolved.installation
    base = load_model(
        config.model_copy(update={"precision": run.precision}),
        {"": "cpu"} if run.is_shared_out else device_map_of(config, installation, folder, run.peers),
    )
    refuse_rows_beyond_positions(base, run.rows)
    if run.tokenizer is not None and run.dataloader is None:
        run.end = settle_stops(base, run.tokenizer, in_chats=run.rows.are_chats)
    # These starts take their share out of the base weights, and an adapter switched off does not put it back.
    if run.peers.is_first and run.questions and run.tokenizer and config.init_lora_weights in ("pissa", "olora"):
        run.base_answers = answer_all(base, run.tokenizer, run.questions)
    loaded = loaded_map(base)
    run.adapted = attach_adapter(base, config)
    if config.init_from_adapter and run.resume is None:
        with folder.changing_attempt() as attempt:
            attempt.init_adapter_sha256 = begin_with(run.adapted, config, run.resolved.policy)
    if not run.is_shared_out:
        return loaded
    share_out(run.adapted, run.peers, offload=config.fsdp_offload_params)
    return own_device()


def train_adapter(run: RunContext) -> None:
    """Until the last step, or until the run shall end before it."""
    config, folder = run.config, run.folder
    reporter = RunReporter(folder, config.max_time and config.max_time * 3600, run.began, run.peers)
    if run.resume is not None:
        load_adapter(run.model, run.resume.path)
        run.report = check_attached(run.model, config, folder, run.resume.path / ADAPTER)
    rows = run.rows
    data = Data(rows.train_rows, rows.eval_rows, run.tokenizer, run.dataloader, rows.order, run.questions)
    training = assemble(run.model, config, run.precision, data, run.peers)
    with folder.changing_attempt() as attempt:
        attempt.batching, attempt.batching_note = training.batching.way, training.batching.note
    state = fresh_state(run.model, training)
    if run.resume is not None:
        load_state(state, run.resume, config, run.peers)
    with folder.changing_status() as status:
        status.attempt.stage = "first_step"
    try_longest_batch(training, state)
    followed = following(config, folder, state.progress.step) if run.peers.is_first else nullcontext()
    with followed as reporter.trackers:
        fit(training, state, reporter)
    put_off_compiled(run.model)  # answers are made token by token, and torch would compile anew for that
    rows.log_counts()
    folder.answer_save_request()
    run.trained = end_training(training, state, reporter)


def save(run: RunContext) -> None:
    """The adapter into the run's folder, proved once more, and to the place where it is published."""
    save_adapter(run.model, run.folder.adapter)
    if run.end is not None and run.tokenizer is not None:
        save_stops(run.end, run.tokenizer, run.folder.adapter)
    assert run.report is not None
    saved = check_saved(run.model, run.config, run.folder, run.report.actual_r_values)
    run.folder.write_rank_report(run.report.but(saved=saved))
    _write_passport(run, run.report.actual_r_values)
    run.trained.tell(run.folder)
    run.publisher.publish_or_say_why()


def answer(run: RunContext) -> None:
    """The config's questions, by the base model and by the adapter: the first process's work, or that of all who share the
    model's weights."""
    folder, questions, sharers = run.folder, run.questions, sharers_of(run.model)
    assert run.tokenizer is not None
    if not run.peers.is_first and sharers.size == 1:
        return

    def answered(far: Answered) -> None:
        with folder.changing_status() as status:
            status.attempt.fraction, status.attempt.eta_s = far.part, far.left_s
            status.attempt.detail = far.message()

    def shall_stop() -> bool:
        return sharers.agreed(folder.stop_request.exists())

    folder.write_answers([])  # an earlier start's
    rows = answer_questions(
        run.model, run.tokenizer, questions, answered, run.base_answers, shall_stop, said=folder.append_answer
    )
    folder.write_answers(rows)  # in the order of the questions
    if len(rows) < len(questions):
        left = Message(
            Plural(
                "The run was stopped after the adapter was saved; {count} of {questions} was answered.",
                "The run was stopped after the adapter was saved; {count} of {questions} were answered.",
            ),
            {
                "count": len(rows),
                "questions": Message(Plural("{count} question", "{count} questions"), {"count": len(questions)}),
            },
        )
        with folder.changing_status() as status:
            status.attempt.outcome = "finished"
            status.attempt.also(left)


class Stage(NamedTuple):
    """A part of a run, under the name that its status shows."""

    name: str
    act: Callable[[RunContext], None]
    is_wanted: Callable[[RunContext], bool] = lambda _: True
    is_of_first: bool = False
    """Whether the first process does it alone; the others wait for it at the end."""


STAGES = (
    Stage("data", read),
    Stage("loading", load),
    Stage("training", train_adapter),
    Stage("saving", save, is_of_first=True),
    Stage("answering", answer, lambda run: bool(run.questions and run.tokenizer)),
)


def _write_passport(run: RunContext, ranks: Mapping[str, Any]) -> None:
    made_by = {attempt.number: surroundings_of(attempt) for attempt in run.folder.read_attempts()}
    starts = [
        {**made_by[span.number].to_json(), **span.to_json()}
        for span in spans_of(run.folder, upto=run.trained.adapter_step)
    ]
    write_passport(run.folder.adapter, config=run.config.model_dump(), starts=starts, ranks=ranks)


def _log_memory(when: str) -> None:
    for line in memory_table():
        logger.info("memory %s: %s", when, line)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
