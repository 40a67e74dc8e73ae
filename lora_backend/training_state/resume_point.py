"""Go on from a checkpoint: which one, whether its adapter is really loaded, and what the curves hold of later steps."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file

from lora_backend.atomic import write_atomic
from lora_backend.bounded import open_regular, read_json
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import RunError
from lora_backend.i18n import N_, Message, Plural
from lora_backend.installation import PeerPlace
from lora_backend.modeling.loaded_identity import differences_from_file, tensor_differences
from lora_backend.modeling.out_of_memory import is_out_of_memory
from lora_backend.peers.peers import Alone, Peers
from lora_backend.runs.checkpoints.manifest import (
    ADAPTER,
    ADAPTER_FILE,
    MANIFEST,
    STATE,
    Damaged,
    checkpoints_of,
    newest_whole,
    refuse_earlier,
    set_aside,
    step_of,
    sweep,
)
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.changes import classify
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import add_attempt
from lora_backend.training_state.checkpoint_read import NEEDED, Saved, unusable_files
from lora_backend.training_state.checkpoint_share import at_each_machine
from lora_backend.training_state.state import Progress, TrainState, progress_of
from lora_backend.views.state_view import damaged_messages

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resume:
    """The checkpoint that training goes on from."""

    path: Path
    step: int
    saved: Saved
    restarts_schedule: bool
    """Whether settings changed that the learning rate's schedule is made of."""


def prepared_by_first(
    folder: RunStore, config: TrainingConfig, peers: Peers, place: PeerPlace | None = None
) -> Resume | None:
    """`prepare_start` of the first of several processes, and what it has chosen at each of them. `place`: of this process, on
    which machine it is."""
    own = prepare_start(folder, config, peers.size) if peers.is_first else None
    found = peers.agreed((own.step, own.restarts_schedule) if own else None)
    if found is None:
        return None
    step, restarts_schedule = found
    path = at_each_machine(folder, own.path if own else None, peers, place)
    resume = own or Resume(path, step, Saved.read(path), restarts_schedule)
    if resume.saved.num_processes == peers.size:
        torch.set_num_threads(resume.saved.num_threads)
    else:
        _tell_other_number(folder, resume.saved.num_processes, peers.size)
    return resume


def _tell_other_number(folder: RunStore, before: int, now: int) -> None:
    processes = Plural("{count} process", "{count} processes")
    said = Message(
        N_(
            "The checkpoint was written by {before}, but the run continues with {now}: from here on, sums round differently and dropout draws other numbers."
        ),
        {"before": Message(processes, {"count": before}), "now": Message(processes, {"count": now})},
    )
    logger.warning("%s", said.text("en"))
    with folder.changing_attempt() as attempt:
        attempt.resume_note = said


def prepare_start(folder: RunStore, config: TrainingConfig, num_processes: int = 1) -> Resume | None:
    """Choose the checkpoint of this start and bring folder and threads into its state; None: from the first step.
    `num_processes`: that train together from now on; of another number than before each has other threads.

    The newest attempt's `resume_from` names the checkpoint; without that key it is the newest, which is for a trainer
    that is started again by hand. Damaged ones are passed over for the one before, said in log and attempt. Points of
    the curves beyond the checkpoint are moved to `attempts/<n>.metrics.jsonl`, an adapter that an earlier start finished
    to `attempts/<n>.adapter`. Raises `RunError` for a changed setting
    that a resumed run cannot take, and for a checkpoint of an earlier version.
    """
    sweep(folder)
    chosen, damaged = _choose(folder)
    for found in damaged:
        for sentence in damaged_messages([found.record()]):
            logger.warning("%s is passed over: %s", found.path.name, sentence)
    saved = Saved.read(chosen) if chosen else None
    step = (step_of(chosen) or 0) if chosen else 0
    changed = classify(saved.config, config.model_dump()) if saved else {"restarts_schedule": {}, "refused": {}}
    for key, reason in changed["refused"].items():
        raise RunError(
            N_("The run cannot continue with another `{key}`. {reason} Start a new run from its config."),
            key=key,
            reason=reason,
        )
    passed_over = {found.path for found in damaged}
    set_aside(folder, [path for path in checkpoints_of(folder) if path in passed_over or (step_of(path) or 0) > step])
    progress = progress_of(saved.state) if saved else Progress()
    drop_points_beyond(folder, step, evaluation_pending=progress.evaluation_pending)
    drop_samples_beyond(folder, step, sampling_pending=progress.sampling_pending)
    _keep_adapter_aside(folder)
    if saved is not None and saved.num_processes == num_processes:
        torch.set_num_threads(saved.num_threads)
        logger.info("resuming from %s, with %s threads as before", chosen, saved.num_threads)
    elif saved is not None:
        logger.info("resuming from %s, with %s threads", chosen, torch.get_num_threads())
    with folder.changing_attempt() as attempt:
        attempt.from_step, attempt.num_threads = step, torch.get_num_threads()
        if damaged:
            attempt.passed_over = [found.record() for found in damaged]
    if chosen is None or saved is None:
        return None
    return Resume(chosen, step, saved, restarts_schedule=bool(changed["restarts_schedule"]))


def _choose(folder: RunStore) -> tuple[Path | None, list[Damaged]]:
    attempt = folder.read_attempt()
    asked = attempt.resume_from
    if attempt.names_checkpoint and asked is None:
        return None, []
    found, damaged = _newest_usable(folder, before=(step_of(Path(asked)) or 0) + 1 if asked else None)
    name = found.name if found else None
    if asked and name != asked:
        with folder.changing_attempt() as attempt:
            attempt.resume_from = name
    elif not asked and found:
        add_attempt(folder, Attempt(resume_from=name))
    return found, damaged


def _newest_usable(folder: RunStore, before: int | None) -> tuple[Path | None, list[Damaged]]:
    """The newest that is whole and has every file that a bit-identical resume needs, each of which can be opened."""
    path, damaged = newest_whole(folder, before)
    while path is not None:
        refuse_earlier(path)
        files = read_json(path / MANIFEST)["files"]
        problems = [f"{name}: missing" for name in NEEDED if name not in files] or unusable_files(path)
        if not problems:
            break
        damaged.append(Damaged(path, tuple(problems)))
        path, more = newest_whole(folder, before=step_of(path))
        damaged += more
    return path, damaged


def drop_points_beyond(folder: RunStore, step: int, *, evaluation_pending: bool = False) -> None:
    """Take the points of later steps out of `metrics.jsonl`, in one step, and keep them beside the attempt.

    With `evaluation_pending` an evaluation of `step` itself goes too: it is about to be done again.
    """

    def stays(row: dict[str, Any]) -> bool:
        return not (evaluation_pending and row["step"] == step and "eval_loss" in row)

    aside = folder.attempt_metrics_jsonl(folder.newest_number() or 1)
    if count := _take_back(folder.metrics_jsonl, aside, step, stays):
        logger.info("%s points of the curves beyond step %s are dropped; they will be made again", count, step)


def drop_samples_beyond(folder: RunStore, step: int, *, sampling_pending: bool = False) -> None:
    """The same of `samples.jsonl`; with `sampling_pending` those of `step` itself go too."""
    aside = folder.attempt_samples_jsonl(folder.newest_number() or 1)
    _take_back(folder.samples_jsonl, aside, step, lambda row: not (sampling_pending and row["step"] == step))


def _take_back(path: Path, aside: Path, step: int, stays: Callable[[dict[str, Any]], bool]) -> int:
    """Move the lines of later steps, and those up to `step` that shall not stay, from `path` to `aside`; how many."""
    try:
        with open_regular(path, follow=False) as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return 0
    kept: list[bytes] = []
    dropped: list[bytes] = []
    for line in filter(None, lines):
        row = _row(line)
        is_kept = isinstance(row.get("step"), int) and row["step"] <= step and stays(row)
        (kept if is_kept else dropped).append(line)
    if dropped:
        aside.parent.mkdir(exist_ok=True)
        write_atomic(aside, b"\n".join([*dropped, b""]))
        write_atomic(path, b"\n".join([*kept, b""]) if kept else b"")
    return len(dropped)


def _keep_adapter_aside(folder: RunStore) -> None:
    """It was trained for fewer steps, or its start was killed behind it; this start's takes its place."""
    if folder.adapter.exists():
        kept = folder.attempt_adapter(folder.newest_number() or 1)
        shutil.rmtree(kept, ignore_errors=True)
        folder.attempts.mkdir(exist_ok=True)
        folder.adapter.rename(kept)


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:  # half a line, of a kill
        return {}
    return row if isinstance(row, dict) else {}


def load_adapter(model: PeftModel, checkpoint: Path) -> None:
    """Load the checkpoint's adapter in the place of the fresh one, every tensor of it.

    Raises `RunError` where it does not hold exactly the tensors that the model's adapter has: PEFT drops what does not
    match without a word, and training would go on from a fresh adapter.
    """
    found = tensor_differences(model, load_file(checkpoint / ADAPTER_FILE), values=False)
    _refuse(checkpoint, [item.name for item in found or ()])
    model.load_adapter(str(checkpoint / ADAPTER), model.active_adapter, is_trainable=True)
    _refuse(checkpoint, [item.name for item in differences_from_file(model, checkpoint / ADAPTER) or ()])
    logger.info("all tensors of the adapter are loaded from %s", checkpoint.name)


def load_state(state: TrainState, resume: Resume, config: TrainingConfig, peers: Peers | None = None) -> None:
    """Go on from the checkpoint, with what the config says now where that was changed."""
    weight_decays = [group["weight_decay"] for group in state.optimizer.param_groups]
    peaks = [group["initial_lr"] for group in state.optimizer.param_groups]
    fresh = state.schedule.state_dict()
    try:
        state.load_state_dict(resume.saved.state, peers or Alone())
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise RunError(
            N_("{file} of {checkpoint} does not fit the run, so nothing was trained. Remove {checkpoint} and resume."),
            file=STATE,
            checkpoint=resume.path.name,
        ) from error
    # A step has as many rows as before, but maybe in other batches, and the place in the data is counted in these.
    state.progress.batch = (
        state.progress.batch * int(resume.saved.config.get("batch_size", config.batch_size)) // config.batch_size
    )
    for group, weight_decay in zip(state.optimizer.param_groups, weight_decays, strict=True):
        group["weight_decay"] = weight_decay
    if resume.restarts_schedule:
        rates = [peak * factor(resume.step) for peak, factor in zip(peaks, state.schedule.lr_lambdas, strict=True)]
        state.schedule.load_state_dict(
            fresh | {"last_epoch": resume.step, "_step_count": resume.step + 1, "_last_lr": rates}
        )
        for group, rate, peak in zip(state.optimizer.param_groups, rates, peaks, strict=True):
            group["lr"], group["initial_lr"] = rate, peak
        logger.info("the learning rate's schedule is computed anew from step %s on: %s", resume.step, rates[0])


def _refuse(checkpoint: Path, names: list[str]) -> None:
    if names:
        raise RunError(
            Plural(
                "{checkpoint} does not fit the adapter: {count} tensor differs, first {first}. Nothing was trained.",
                "{checkpoint} does not fit the adapter: {count} tensors differ, first {first}. Nothing was trained.",
            ),
            checkpoint=checkpoint.name,
            count=len(names),
            first=names[0],
        )
