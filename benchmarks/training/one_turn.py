"""One turn of one contender: a fresh model and adapter, one epoch, and what was noted at the end of each step."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.training.contenders import QUIET, SHARED, Contender, config_of, demo_model
from benchmarks.training.row_sets import Row

SHOWN_KEYS = ("batch_size", "precision", "batching", "fused_lora", "loss_type", "optim", "torch_compile")
SHOWN_FIELDS = (
    "per_device_train_batch_size", "max_length", "train_sampling_strategy", "packing", "padding_free", "bf16",
    "gradient_checkpointing", "loss_type", "optim", "torch_compile",
)  # fmt: skip
WARM_STEPS = 2
"""Not counted: the first one sets up, and in the second of a run its memory is measured."""


@dataclass
class Turn:
    """What was noted of one epoch, step by step."""

    tokens: list[int] = field(default_factory=list)
    """Of each step, those that are no padding."""
    ends: list[float] = field(default_factory=list)
    """When each step ended, by `time.perf_counter`."""
    worked: list[float] = field(default_factory=list)
    """The same by the process's own time on all cores (`time.process_time`)."""
    losses: list[float] = field(default_factory=list)
    began: float = 0.0
    over: float = 0.0
    peak_bytes: int = 0
    """The most that the process held since its model was loaded (`VmHWM`)."""
    settings: str = ""
    """What was trained with, as its own trainer says it."""
    profile: list[tuple[str, float]] | None = None
    """(group, seconds) of the steps that are counted."""

    @property
    def tokens_per_s(self) -> float:
        return sum(self.tokens[WARM_STEPS:]) / (self.ends[-1] - self.ends[WARM_STEPS - 1])

    @property
    def tokens_per_core_s(self) -> float:
        """Tokens per second of a core: holds, more or less, while other work takes its share of the machine."""
        return sum(self.tokens[WARM_STEPS:]) / (self.worked[-1] - self.worked[WARM_STEPS - 1])

    @property
    def tokens_a_step(self) -> float:
        counted = self.tokens[WARM_STEPS:]
        return sum(counted) / len(counted)

    @property
    def once_s(self) -> float:
        """What a run takes beside its steps: trying the longest batch, measuring memory, saving."""
        a_step = (self.ends[-1] - self.ends[WARM_STEPS - 1]) / len(self.tokens[WARM_STEPS:])
        return self.over - self.began - a_step * len(self.ends)


class Watch:
    """Hears of the end of each step, and has the counted ones profiled where that is wanted."""

    def __init__(self, is_profiled: bool) -> None:
        self.turn = Turn()
        self._is_profiled = is_profiled
        self._profiler: Any = None

    def step_ends(self, tokens: int, *, is_last: bool) -> None:
        turn = self.turn
        if is_last and len(turn.ends) < WARM_STEPS:
            raise ValueError(
                f"an epoch has {len(turn.ends) + 1} steps, and {WARM_STEPS} of them do not count: more rows are needed"
            )
        turn.tokens.append(tokens)
        turn.ends.append(time.perf_counter())
        turn.worked.append(time.process_time())
        if not self._is_profiled:
            return
        from torch.profiler import ProfilerActivity, profile

        if is_last and self._profiler is not None:
            from benchmarks.training.step_profile import grouped_seconds

            self._profiler.stop()
            turn.profile = grouped_seconds(self._profiler, turn.ends[-1] - turn.ends[WARM_STEPS - 1])
        elif len(turn.ends) == WARM_STEPS:
            self._profiler = profile(activities=[ProfilerActivity.CPU])
            self._profiler.start()
            turn.ends[-1], turn.worked[-1] = time.perf_counter(), time.process_time()


def take_turn(contender: Contender, rows: Sequence[Row], *, is_profiled: bool = False) -> Turn:
    """Train once from the beginning."""
    watch = Watch(is_profiled)
    gc.collect()
    train = _prepare_ours if contender.by == "Flightdeck" else _prepare_trl
    with tempfile.TemporaryDirectory() as folder:
        act = train(contender, rows, watch, Path(folder))
        _forget_peak()
        watch.turn.began = time.perf_counter()
        act()
        watch.turn.over = time.perf_counter()
        watch.turn.peak_bytes = _peak_bytes()
    return watch.turn


def _prepare_ours(contender: Contender, rows: Sequence[Row], watch: Watch, folder: Path) -> Any:
    from datasets import Dataset

    from lora_backend.modeling.devices import resolve_precision
    from lora_backend.modeling.load import load_tokenizer
    from lora_backend.training.assembly import Data, assemble, fresh_state, try_longest_batch
    from lora_backend.training.loop import fit
    from lora_backend.training.reporter import RunReporter
    from tests.run_files import make_run

    class Watching(RunReporter):
        total = 0

        def begins(self, step: int, total_steps: int, best_step: int | None = None) -> None:
            super().begins(step, total_steps, best_step)
            self.total = total_steps

        def step_done(self, step: int, epoch: float) -> None:
            super().step_done(step, epoch)
            watch.step_ends(self.num_tokens, is_last=step == self.total)

        def trained(self, step: int, epoch: float, **figures: Any) -> None:
            super().trained(step, epoch, **figures)
            watch.turn.losses.append(figures["loss"])

    config = config_of(contender)
    precision = resolve_precision(config.precision)
    run = make_run(folder, config={}, config_text="", argv=None)
    tokenized = Dataset.from_list([{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows])
    data = Data(tokenized, None, load_tokenizer(config.model_name), order=_in_order(len(rows)))
    model = _adapted(config, precision)
    watch.turn.settings = ", ".join(f"{key} {getattr(config, key)}" for key in SHOWN_KEYS) + f"; trains in {precision}"

    def act() -> None:
        training = assemble(model, config, precision, data)
        watch.turn.settings += f", batches {training.batching.way}"
        state = fresh_state(model, training)
        try_longest_batch(training, state)
        fit(training, state, Watching(run))

    return act


def _prepare_trl(contender: Contender, rows: Sequence[Row], watch: Watch, folder: Path) -> Any:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from lora_backend.modeling.load import load_tokenizer

    arguments = SFTConfig(output_dir=str(folder), use_cpu=True, **QUIET | contender.settings)
    trainer = SFTTrainer(
        model=_adapted(config_of(Contender("", "Flightdeck")), contender.base),
        args=arguments,
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=load_tokenizer(demo_model()),
    )
    watch.turn.settings = ", ".join(f"{name} {_plain(getattr(arguments, name))}" for name in SHOWN_FIELDS)
    watch.turn.settings += f"; base model in {contender.base}"

    class Watching(TrainerCallback):
        before = 0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            now = int(trainer._total_train_tokens)
            watch.step_ends(now - self.before, is_last=state.global_step == state.max_steps)
            self.before = now

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                watch.turn.losses.append(float(logs["loss"]))

    trainer.add_callback(Watching())
    return trainer.train


def _adapted(config: Any, precision: str) -> Any:
    """The demo's model with a fresh adapter, the same one for everybody."""
    from transformers import set_seed

    from lora_backend.modeling.adapter import attach_adapter
    from lora_backend.modeling.load import load_model

    set_seed(config.seed)
    return attach_adapter(load_model(config.model_copy(update={"precision": precision})), config)


def _in_order(num_rows: int) -> Any:
    """An epoch's order that is the rows' own."""
    import numpy as np

    from lora_backend.tokens.epoch_order import EpochOrder, Rows

    class InOrder(EpochOrder):
        def of(self, epoch: int) -> Rows:
            return np.arange(num_rows, dtype=np.int32)

    return InOrder.of_all(num_rows, SHARED["seed"])


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
