"""What the stages of a training hand on to one another, and what is said of each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from lora_backend.config.schema import TrainingConfig
from lora_backend.peers.peers import Alone, Peers
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.history.publisher import Publisher
from lora_backend.runs.record.run_store import RunStore
from lora_backend.tokens.end_of_turn import EndOfTurn
from lora_backend.training.data import StartRows
from lora_backend.training.training_end import TrainingEnd
from lora_backend.training_state.resume_point import Resume
from lora_backend.verification.rank_documents import RankReport

logger = logging.getLogger(__name__)
BEFORE_TRAINING = ("preparing", "data", "loading", "training")
"""Stages before which a stop ends the run; `preparing` is the demo's own."""


@dataclass
class RunContext:
    """What the stages of one start work on; each finds what those before it have left here."""

    resolved: ResolvedConfig
    """The config with what it names, found once for the whole start."""
    folder: RunStore
    """Of several processes the first alone writes to it; what the others write is dropped."""
    dataloader: DataLoader[Any] | None
    """The caller's own, in the place of a data set."""
    peers: Peers
    """The processes that go through these stages together."""
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
    trained: TrainingEnd = field(default_factory=TrainingEnd)
    """Where it is unfinished no stage follows."""

    @property
    def config(self) -> TrainingConfig:
        return self.resolved.config

    @property
    def is_shared_out(self) -> bool:
        """Whether each of the processes keeps a part of every weight (`strategy: fsdp`)."""
        return self.peers.size > 1 and (self.folder.read_attempt().strategy or self.config.strategy) == "fsdp"

    @property
    def model(self) -> PeftModel:
        """Once the adapter is attached."""
        assert self.adapted is not None
        return self.adapted


def run_stage(folder: RunStore, name: str, act: Callable[[], object], peers: Peers | None = None) -> bool:
    """Say in status and log which stage the run is at and how long it took. False, and the run is stopped, where a stop
    was asked for before it and there is nothing to save yet. `peers`: who enters it together; None: this process alone."""
    is_stopped = (peers or Alone()).agreed(folder.stop_request.exists()) and name in BEFORE_TRAINING
    with folder.changing_status() as status:
        now = status.attempt
        if is_stopped:
            now.outcome = "stopped"
            return False
        now.stage, now.eta_s, now.fraction, now.detail = name, None, None, None
    logger.info("stage %s", name)
    began = time.monotonic()
    act()
    logger.info("stage %s took %.1f s", name, time.monotonic() - began)
    return True
