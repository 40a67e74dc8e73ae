"""Hands a run's points on to the trackers that its config names; none of them can end the run or hold it up.

They are accelerate's own (`accelerate.tracking`), each in a thread: one that waits for its network keeps nobody waiting, and one
that fails is told of once and left alone. Secrets come from the environment, where each tracker looks for its own; nothing
of them is written here.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker

from lora_backend.config.schema import TrainingConfig
from lora_backend.config.secrets import holds_secret
from lora_backend.runs.record.documents import MetricPoint
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training_state.randomness import nothing_drawn

logger = logging.getLogger(__name__)
PROJECT = "lora-flightdeck"
"""Of runs whose config has no `pkg`."""
START_S, FINISH_S = 60.0, 30.0
"""How long a run waits at most for a tracker to begin, and for its last points to arrive."""
NAMES = {
    "epoch": "train/epoch", "loss": "train/loss", "learning_rate": "train/learning_rate", "grad_norm": "train/grad_norm",
    "tokens_per_s": "train/tokens_per_s", "memory_bytes": "train/memory_bytes",
    "eval_loss": "eval/loss", "eval_token_accuracy": "eval/token_accuracy",
}  # fmt: skip
"""A point's figures as transformers' own integrations name them."""


class Trackers:
    """All that follow one start of a run."""

    def __init__(self, followers: Sequence[Follower]) -> None:
        self._followers = followers

    def log(self, point: MetricPoint) -> None:
        """Returns at once. A figure that is no number is left out."""
        figures = {theirs: value for ours, theirs in NAMES.items() if (value := getattr(point, ours)) is not None}
        for follower in self._followers:
            follower.tell(figures, point.step)


class Follower(threading.Thread):
    """One tracker, in the one thread that ever calls it: some know their run by the thread."""

    def __init__(self, name: str, make: Callable[[], GeneralTracker], config: dict[str, Any] | None) -> None:
        """`config`: what it is told of the run first; None where it knows."""
        super().__init__(name=f"tracker-{name}", daemon=True)
        self.tracker_name, self._make, self._config = name, make, config
        self._points: queue.SimpleQueue[tuple[dict[str, float], int] | None] = queue.SimpleQueue()
        self.begun = threading.Event()
        self.run_id: str | None = None
        """Its own name for the run, where it gave one."""

    def tell(self, figures: dict[str, float], step: int) -> None:
        if self.is_alive():
            self._points.put((figures, step))

    def end(self) -> None:
        """Wait for what is under way."""
        self._points.put(None)
        self.join(FINISH_S)
        if self.is_alive():
            logger.warning("%s does not answer: it may lack the run's last points", self.tracker_name)

    def run(self) -> None:
        try:
            tracker = self._make()
            tracker.start()
            self.run_id = getattr(getattr(tracker.tracker, "info", None), "run_id", None)
            if self._config is not None:
                tracker.store_init_configuration(self._config)
            self.begun.set()
            while (told := self._points.get()) is not None:
                tracker.log(told[0], step=told[1])
            tracker.finish()
        except (
            Exception,
            SystemExit,
        ) as error:  # whatever somebody else's program raises; its words may hold an address with a password
            logger.warning(
                "%s fails (%s): it gets no more points, and the run goes on", self.tracker_name, type(error).__name__
            )
        finally:
            self.begun.set()


@contextmanager
def following(config: TrainingConfig, folder: RunStore, step: int) -> Iterator[Trackers]:
    """The trackers of a start that goes on behind `step`, told of the run's config; ended with the block.

    A resumed run goes on in the same run of each.
    """
    told = plain_values(config) if step == 0 else None
    known = {name: run_id for attempt in folder.read_attempts() for name, run_id in attempt.tracker_runs.items()}
    followers = [Follower(name, _maker(name, config, folder, step, known.get(name)), told) for name in names_of(config)]
    with nothing_drawn():
        for follower in followers:
            follower.start()
        for follower in followers:
            follower.begun.wait(START_S)
    begun = {one.tracker_name: one.run_id for one in followers if one.run_id is not None}
    if begun:
        with folder.changing_attempt() as attempt:
            attempt.tracker_runs = begun
    try:
        yield Trackers(followers)
    finally:
        for follower in followers:
            follower.end()


def names_of(config: TrainingConfig) -> list[str]:
    """Each once."""
    asked = [config.report_to] if isinstance(config.report_to, str) else config.report_to
    return [name for name in dict.fromkeys(asked) if name != "none"]


def plain_values(config: TrainingConfig) -> dict[str, bool | int | float | str]:
    """The config as every tracker takes it: what is set, lists and maps as JSON; nothing that looks like a secret."""
    values = {
        key: value for key, value in config.model_dump().items() if value is not None and not holds_secret(key, value)
    }
    return {
        key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for key, value in values.items()
    }


def _maker(
    name: str, config: TrainingConfig, folder: RunStore, step: int, run_id: str | None
) -> Callable[[], GeneralTracker]:
    project, resume = config.pkg or PROJECT, "allow"
    if name == "tensorboard":  # points that a resumed run makes again are taken out of what it shows
        purge = {"purge_step": step + 1} if step else {}
        return lambda: TensorBoardTracker(name, folder.path, **purge)
    if name == "trackio":
        return lambda: TrackioTracker(project, name=folder.id, resume=resume)
    if name == "mlflow":
        return lambda: MLflowTracker(project, run_name=folder.id, run_id=run_id)
    return lambda: WandBTracker(project, name=folder.id, id=folder.id, resume=resume, dir=str(folder.path))
