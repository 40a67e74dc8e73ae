"""What is settled of a start before it loads anything: number format, plan, device map, and what it can promise."""

from __future__ import annotations

import logging
from operator import itemgetter

import torch

from lora_backend.config.schema import TrainingConfig
from lora_backend.installation import Installation
from lora_backend.modeling.device_map import DeviceMap, in_torch_order, placement
from lora_backend.modeling.devices import DTYPES, resolve_precision
from lora_backend.modeling.profiling import tracer
from lora_backend.models.identity import base_identity
from lora_backend.peers.peers import Peers
from lora_backend.planning.report import verdict
from lora_backend.preflight.doubts_now import doubts_now
from lora_backend.preflight.placement import plan_start
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.record.attempts import BaseIdentity
from lora_backend.runs.record.numbering import in_trainer, trainer_numbers
from lora_backend.runs.record.provenance import provenance
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.surroundings import differences_of_starts
from lora_backend.training.data import StartData
from lora_backend.views.plan_view import plan_table

logger = logging.getLogger(__name__)
ON_A_CPU = {
    "bf16": "this processor multiplies it in hardware; `precision: fp32` computes in fp32",
    "fp32": "this processor has no instructions of its own for bf16",
}
"""What the log says of `precision: auto`."""


def write_start(resolved: ResolvedConfig, folder: RunStore, data: StartData, precision: str) -> None:
    """What this start trains on and by, in its attempt: each may be another at the next start."""
    made_by, base = provenance(), BaseIdentity(**base_identity(resolved.model_path))
    with folder.changing_attempt() as attempt:
        attempt.data_sha256, attempt.data_sets = data.data_sha256, [one.read for one in data.sets]
        attempt.eval_sha256, attempt.questions_sha256 = data.eval_sha256, data.questions_sha256
        attempt.versions, attempt.python, attempt.platform = made_by["versions"], made_by["python"], made_by["platform"]
        attempt.code, attempt.base, attempt.precision = made_by["code"], base, precision
    for number, differences in differences_of_starts(folder):
        for said in differences if number == attempt.number else ():
            logger.warning("start %s: %s", number, said)


def planned_precision(config: TrainingConfig, folder: RunStore) -> str:
    """`auto` as it was planned: of several GPUs the first, which torch is asked about, does not decide alone."""
    plan = folder.read_attempt().plan
    is_planned = plan is not None and config.precision == "auto" and plan.strategy != "cpu"
    precision = (
        plan.precision if plan and is_planned and plan.precision in DTYPES else resolve_precision(config.precision)
    )
    if config.precision == "auto" and not is_planned and not torch.cuda.is_available():
        logger.info("precision %s: %s", precision, ON_A_CPU[precision])
    return precision


def plan_here(resolved: ResolvedConfig, folder: RunStore) -> None:
    """Plan this start where its launcher has not, for the GPUs as this process sees them, and log what every device is
    expected to hold."""
    attempt = folder.read_attempt()
    if attempt.strategy_note is not None:
        logger.info("strategy %s. %s", attempt.strategy, attempt.strategy_note)
    if attempt.is_planned:
        for said in doubts_now(attempt, resolved.installation):
            logger.warning("plan: %s", said)
        return
    together = attempt if attempt.num_peers > 1 else None
    start = plan_start(resolved, tracer(resolved.installation), seen=in_torch_order, together=together)
    with folder.changing_attempt() as attempt:
        attempt.learn(start.attempt)
    if start.reason is not None:
        logger.info("strategy %s. %s", start.attempt.strategy, start.reason)
    if start.plan is None:
        logger.warning("no plan: %s", start.note)
        return
    logger.log(logging.INFO if start.plan.verdict == "fits" else logging.WARNING, "plan: %s\n%s", verdict(start.plan), plan_table(start.plan))  # fmt: skip


def device_map_of(
    config: TrainingConfig, installation: Installation, folder: RunStore, peers: Peers
) -> dict[str, int | str] | str | None:
    """The map that was planned for this start, else the one that the config asks for, in the numbers of this process; a
    fallback is written down. Of several processes each has its own GPU, or the CPU."""
    if peers.size > 1:
        return own_device()
    attempt = folder.read_attempt()
    numbers = trainer_numbers(attempt)
    if any(planned != number for planned, number in numbers.items()):
        logger.info("devices here: %s", ", ".join(f"cuda:{number} is GPU {planned}" for planned, number in sorted(numbers.items(), key=itemgetter(1))))  # fmt: skip
    planned = attempt.plan.device_map if attempt.plan else None
    if isinstance(config.device_map, dict):
        return in_trainer(config.device_map, attempt)
    placed = in_trainer(planned, attempt) if planned and config.device_map is None else {}
    is_on_first = set(placed.values()) <= {0} or set(placed.values()) == {"cpu"}
    if placed and (config.is_balanced or not is_on_first):
        return placed
    made, fallback = placement(config, installation)
    if fallback is not None:
        with folder.changing_attempt() as attempt:
            attempt.fallback = fallback
    return made


def own_device() -> DeviceMap:
    """Of one of several processes: the GPU that it has chosen, or the CPU."""
    return {"": torch.cuda.current_device() if torch.cuda.is_available() else "cpu"}


def log_reproducibility() -> None:
    """Whether a resume of this run is promised to be bit-identical."""
    if torch.cuda.is_available() and not torch.are_deterministic_algorithms_enabled():
        logger.info("a resume is not promised to be bit-identical on GPUs: set `deterministic: true` for that")
    elif torch.cuda.is_available():
        logger.info("deterministic algorithms are on: a resume on the same GPUs is bit-identical")
    else:
        logger.info("a resume on this processor is bit-identical, with %s threads", torch.get_num_threads())
