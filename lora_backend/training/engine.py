"""A training run from its config to its adapter, top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from typing import Any

import torch
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq, set_seed
from transformers.trainer_utils import has_length

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, first_line
from lora_backend.i18n import N_, Message, Plural
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.device_map import in_torch_order, loaded_map, placement
from lora_backend.modeling.devices import DTYPES, memory_table, refuse_untrainable, resolve_precision
from lora_backend.modeling.load import load_model, load_tokenizer, vocabulary_size
from lora_backend.modeling.profiling import profile_for
from lora_backend.modeling.step import inputs_device
from lora_backend.models.find import find_model
from lora_backend.models.identity import base_identity
from lora_backend.planning.report import plan_table, verdict
from lora_backend.preflight.doubts_now import doubts_now
from lora_backend.preflight.placement import plan_start, refuse_host_memory
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.numbering import as_planned, in_trainer, trainer_numbers
from lora_backend.runs.record.provenance import provenance
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.runs.record.starts import attempts_of, spans_of
from lora_backend.runs.record.surroundings import differences_of_starts, facts_of
from lora_backend.settings import load_settings
from lora_backend.training.answers import answer_all, answer_questions
from lora_backend.training.callbacks import RunCallback
from lora_backend.training.data import StartData, read_data, refuse_rows_beyond_positions, tokenized
from lora_backend.training.expected_memory import keep_expected
from lora_backend.training.lease import leased
from lora_backend.training.publish import Publisher, save_adapter
from lora_backend.training.randomness import deterministic_algorithms
from lora_backend.training.resume import prepare_start
from lora_backend.training.run_ranks import check_attached, check_saved
from lora_backend.training.session import StoppedBeforeTrainingError
from lora_backend.training.trainer import LoraTrainer, training_arguments
from lora_backend.verification.passport import write_passport
from lora_backend.verification.rank_documents import RankReport

logger = logging.getLogger(__name__)


def train(
    config: TrainingConfig, folder: RunFolder, dataloader: DataLoader[Any] | None = None, *, bound: bool = True
) -> PeftModel:
    """Load → attach → check ranks → train → save → answer. Writes all of it into `folder`.

    Trains on `dataloader` where one is given, else on `config.dataset`. Raises one of our errors with a sentence
    for whatever the config, the data or the machine does not allow. Goes on from the checkpoint that the newest
    attempt names. `bound`: the adapter is published below the output roots only; whoever lets a person name any
    folder, in this very process, passes False. No file of the run says so: a run's folder may come from anywhere.
    """
    try:
        with deterministic_algorithms(config.deterministic), ExitStack() as devices:
            model = _train(config, folder, dataloader, devices, Publisher(folder, config.model_dump(), bound))
    except Exception:
        keep_expected(config, folder)
        raise
    keep_expected(config, folder)
    return model


def _train(
    config: TrainingConfig,
    folder: RunFolder,
    dataloader: DataLoader[Any] | None,
    devices: ExitStack,
    publisher: Publisher,
) -> PeftModel:
    began = time.monotonic()
    precision = _precision(config, folder)
    refuse_untrainable(precision)
    publisher.judged()  # what refuses now would refuse at the end

    with stage(folder, "data"):
        data = read_data(config, folder, has_batches=dataloader is not None)
        resume = prepare_start(folder, config)
        _write_start(config, folder, data, precision)
        _log_reproducibility()
        set_seed(config.seed)
        tokenizer = load_tokenizer(config.model_name) if dataloader is None or config.questions else None
        questions = data.questions
        train_rows, eval_rows = None, None
        if data.dataset is not None and tokenizer is not None:
            train_rows, eval_rows = tokenized(data.dataset, config, tokenizer)

    with stage(folder, "loading"):
        _plan(config, folder)
        devices.enter_context(leased(folder))
        base = load_model(config.model_copy(update={"precision": precision}), _device_map(config, folder))
        if train_rows is not None:
            refuse_rows_beyond_positions(base, train_rows)
        # These starts take their share out of the base weights, and an adapter switched off does not put it back.
        base_answers = None
        if questions and tokenizer and config.init_lora_weights in ("pissa", "olora"):
            base_answers = answer_all(base, tokenizer, questions)
        loaded, attempt = loaded_map(base), folder.attempt()
        numbered = {module: as_planned(place, attempt) for module, place in loaded.items()}
        folder.write_attempt(loaded_device_map=numbered, vocab_size=vocabulary_size(base))
        model = attach_adapter(base, config)
        refuse_host_memory({str(place) for place in loaded.values()})
        _log_memory("after load")

    reports = [check_attached(model, config, folder)]

    with stage(folder, "training"):
        callback = RunCallback(folder, config.max_time and config.max_time * 3600, began)
        trainer = _trainer(
            config=config,
            folder=folder,
            precision=precision,
            model=model,
            train_dataset=train_rows,
            eval_dataset=eval_rows,
            processing_class=tokenizer,
            data_collator=DataCollatorForSeq2Seq(tokenizer) if tokenizer else None,
            run_callback=callback,
            dataloader=dataloader,
            resume=resume,
            after_load=lambda checkpoint: reports.append(check_attached(model, config, folder, checkpoint)),
        )
        trainer.train()
        folder.save_request.unlink(missing_ok=True)
        if trainer.ended_early:
            _write_stopped(folder, trainer, config)
            return model

    with stage(folder, "saving"):
        save_adapter(model, folder.adapter)
        layers = reports[-1].actual_r_values
        report = reports[-1].but(saved=check_saved(model, config, folder, layers))
        folder.write_rank_report(report)
        _write_passport(config, folder, report, trainer.state.global_step)
        publisher.publish_or_say_why()

    if questions and tokenizer:
        with stage(folder, "answering"):
            rows = answer_questions(
                model,
                tokenizer,
                questions,
                lambda part: folder.write_status(fraction=part),
                base_answers,
                lambda: folder.stop_requested,
            )
            folder.write_answers(rows)
        if len(rows) < len(questions) and "outcome_message" not in folder.status():
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
            folder.write_status(outcome="finished", outcome_message=left.to_json())
    _log_memory("at the end")
    return model


def _trainer(
    *, dataloader: DataLoader[Any] | None, config: TrainingConfig, folder: RunFolder, precision: str, **more: Any
) -> LoraTrainer:
    """The trainer; what transformers does not take of the config is a `ConfigError`."""
    batch_size = getattr(dataloader, "batch_size", None)
    if config.target_batch_size and batch_size and config.target_batch_size % batch_size:
        raise ConfigError(
            N_(
                "`target_batch_size` {target} is not a multiple of the DataLoader's batches of {batch} rows. Change one of them."
            ),
            target=config.target_batch_size,
            batch=batch_size,
        )
    if dataloader is not None and not config.max_steps and not has_length(dataloader):
        raise ConfigError(N_("The DataLoader has no length, so its epochs cannot be counted. Set `max_steps`."))
    try:
        args = training_arguments(config, folder, precision, batch_size, str(inputs_device(more["model"])))
        LoraTrainer.get_optimizer_cls_and_kwargs(args)  # raises where its package is not installed
        return LoraTrainer(args=args, dataloader=dataloader, config=config, **more)
    except (ValueError, ImportError) as error:
        reason = first_line(error)
        raise ConfigError(N_("transformers does not take the config: {reason}"), reason=reason) from error


@contextmanager
def stage(folder: RunFolder, name: str) -> Iterator[None]:
    """Say in status and log which stage the run is at and how long it took; a stop asked for before it ends the run."""
    if folder.stop_requested and name in ("preparing", "data", "loading", "training"):
        raise StoppedBeforeTrainingError
    folder.write_status(stage=name, eta_s=None, fraction=None, detail=None)
    logger.info("stage %s", name)
    began = time.monotonic()
    yield
    logger.info("stage %s took %.1f s", name, time.monotonic() - began)


def _write_start(config: TrainingConfig, folder: RunFolder, data: StartData, precision: str) -> None:
    """What this start trains on and by, in its attempt: each may be another at the next start."""
    base = base_identity(find_model(config.model_name))
    folder.write_attempt(**data.sha256, **provenance(), base=base, precision=precision)
    for number, differences in differences_of_starts(folder):
        for said in differences if number == folder.attempt()["number"] else ():
            logger.warning("start %s: %s", number, said)


def _precision(config: TrainingConfig, folder: RunFolder) -> str:
    """`auto` as it was planned: of several GPUs the first, which torch is asked about, does not decide alone."""
    plan = folder.attempt().get("plan") or {}
    is_planned = config.precision == "auto" and plan.get("strategy") in ("single", "layer_split")
    return plan["precision"] if is_planned and plan.get("precision") in DTYPES else resolve_precision(config.precision)


def _plan(config: TrainingConfig, folder: RunFolder) -> None:
    """Plan this start where its launcher has not, for the GPUs as this process sees them, and log what every device is
    expected to hold."""
    attempt = folder.attempt()
    if "plan" in attempt:
        for said in doubts_now(attempt):
            logger.warning("plan: %s", said)
        return
    start = plan_start(config.model_dump(), load_settings(), profile_for, seen=in_torch_order)
    folder.write_attempt(**start.to_json())
    if start.plan is None:
        logger.warning("no plan: %s", start.note)
        return
    logger.log(logging.INFO if start.plan.verdict == "fits" else logging.WARNING, "plan: %s\n%s", verdict(start.plan), plan_table(start.plan))  # fmt: skip


def _device_map(config: TrainingConfig, folder: RunFolder) -> dict[str, int | str] | str | None:
    """The map that was planned for this start, else the one that the config asks for, in the numbers of this process; a
    fallback is written down."""
    attempt = folder.attempt()
    numbers = trainer_numbers(attempt)
    if any(planned != number for planned, number in numbers.items()):
        logger.info("devices here: %s", ", ".join(f"cuda:{number} is GPU {planned}" for planned, number in sorted(numbers.items(), key=itemgetter(1))))  # fmt: skip
    planned = (attempt.get("plan") or {}).get("device_map")
    if isinstance(config.device_map, dict):
        return in_trainer(config.device_map, attempt)
    if planned and config.use_balanced_device_map and config.device_map is None:
        return in_trainer(planned, attempt)
    made, fallback = placement(config)
    if fallback is not None:
        folder.write_attempt(fallback=fallback.to_json())
    return made


def _write_stopped(folder: RunFolder, trainer: LoraTrainer, config: TrainingConfig) -> None:
    """The outcome of a run that was told to end before its last step, with the reason where nobody asked for it."""
    why: dict[str, Any] = {}
    if trainer.run_callback.ended_by == "max_time":
        said = Message(
            N_("`max_time` of {hours} h was over. Resume the run: it goes on after step {step}."),
            {"hours": config.max_time, "step": trainer.state.global_step},
        )
        why = {"outcome_cause": "max_time", "outcome_message": said.to_json()}
    elif isinstance(name := (read_json(folder.stop_request) or {}).get("signal"), str):
        said = Message(
            N_("The run was stopped by {signal}, with a checkpoint at step {step}. It can be resumed."),
            {"signal": name, "step": trainer.state.global_step},
        )
        why = {"outcome_cause": "signal", "outcome_message": said.to_json()}
    folder.write_status(outcome="stopped", step=trainer.state.global_step, **why)


def _log_reproducibility() -> None:
    """Whether a resume of this run is promised to be bit-identical."""
    if torch.cuda.is_available() and not torch.are_deterministic_algorithms_enabled():
        logger.info("a resume is not promised to be bit-identical on GPUs: set `deterministic: true` for that")
    elif torch.cuda.is_available():
        logger.info("deterministic algorithms are on: a resume on the same GPUs is bit-identical")
    else:
        logger.info("a resume on this processor is bit-identical, with %s threads", torch.get_num_threads())


def _write_passport(config: TrainingConfig, folder: RunFolder, report: RankReport, last_step: int) -> None:
    made_by = {attempt["number"]: facts_of(attempt) for attempt in attempts_of(folder)}
    starts = [{**made_by[span.number], **span.to_json()} for span in spans_of(folder, upto=last_step)]
    write_passport(folder.adapter, config=config.model_dump(), starts=starts, ranks=report.actual_r_values)


def _log_memory(when: str) -> None:
    for line in memory_table():
        logger.info("memory %s: %s", when, line)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
