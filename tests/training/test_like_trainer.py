"""Held against transformers' own Trainer: the same losses, rates, gradient norms, optimizer states and adapter, to the bit.

Both train the same model on the same batches from the same random state on, in fp32 on the CPU. Trainer is plain: its own
loop, its own optimizer and schedule. What differs is who draws the order of the rows, so ours is handed to it, and that ours draws nothing for an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from bitsandbytes.optim.optimizer import GlobalOptimManager
from peft import PeftModel, get_peft_model_state_dict
from transformers import DataCollatorForSeq2Seq, EarlyStoppingCallback, Trainer, TrainingArguments

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.load import load_model, load_tokenizer
from lora_backend.runs.record.run_store import RunStore
from lora_backend.tokens.label_rows import label_rows
from lora_backend.tokens.labels import LabelRules
from lora_backend.training.assembly import Data, assemble, fresh_state
from lora_backend.training.batches import accumulation_steps
from lora_backend.training.loop import Training, fit
from lora_backend.training.reporter import RunReporter
from lora_backend.training_state.best_model import load_best
from lora_backend.training_state.randomness import RandomState, nothing_drawn
from lora_backend.training_state.state import TrainState
from tests.tiny import chats
from tests.training.helpers import COMPARED, curve

Make = Callable[..., dict[str, Any]]
HARD: dict[str, Any] = {
    "lora_dropout": 0.1, "batch_size": 2, "target_batch_size": 6, "num_epochs": 3, "logging_steps": 1, "save_steps": 1000,
    "lr_scheduler_type": "cosine", "warmup_ratio": 0.2, "weight_decay": 0.1, "max_grad_norm": 0.2, "eval_strategy": "steps",
    "eval_steps": 2, "val_size": 0.25, "batching": "padded", "fused_lora": False, "loss_type": "nll", "optim": "adamw_torch",
}  # fmt: skip
"""Rows of unequal length, padded; five batches an epoch, so that its last step has fewer; dropout, clipping, warm-up, decay. Computed as
Trainer computes: padded, PEFT's layers, torch's plain optimizer, the loss of all logits."""
CASES: dict[str, dict[str, Any]] = {
    "adamw": {"optim": "adamw_torch"},
    "adamw in one kernel": {"optim": "adamw_torch_fused"},
    "adamw_8bit, a table of embeddings": {"optim": "adamw_8bit", "r": 128, "modules_to_save": ["embed_tokens"]},
    "adafactor": {"optim": "adafactor"},
    "one batch a step, no clipping": {"target_batch_size": None, "max_grad_norm": 0.0},
    "checkpointing, a head that trains": {"gradient_checkpointing": True, "modules_to_save": ["lm_head"], "lr_scheduler_type": "polynomial"},
    "norms that train": {"modules_to_save": ["norm"], "optim": "sgd", "max_steps": 4},
}  # fmt: skip
Made = tuple[list[dict[str, Any]], torch.optim.Optimizer, PeftModel]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Both with the same; and accelerate's state is made anew for what comes next."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    AcceleratorState._reset_state(reset_partial_state=True)


def rows_of(values: dict[str, Any], rows: list[dict[str, object]]) -> Data:
    """Ten to train on and three held out."""
    tokenizer = load_tokenizer(values["model_name"])
    tokens = label_rows(rows, tokenizer, LabelRules(64))
    held_back = len(tokens) // 4
    return Data(tokens.select(range(held_back, len(tokens))), tokens.select(range(held_back)), tokenizer)


def by_ours(config: TrainingConfig, data: Data, folder: Path) -> tuple[Made, RandomState, Training]:
    """What is logged, the optimizer and the model; and the random state at the first batch."""
    training, state = assembled(config, data)
    first = RandomState.now()
    folder.mkdir()
    run = RunStore(folder)
    fit(training, state, RunReporter(run))
    return (curve(run), state.optimizer, state.model), first, training


def assembled(config: TrainingConfig, data: Data) -> tuple[Training, TrainState]:
    model = attached(config)
    training = assemble(model, config, "fp32", data)
    return training, fresh_state(model, training)


def attached(config: TrainingConfig) -> PeftModel:
    torch.manual_seed(config.seed)
    return attach_adapter(load_model(config), config)


class Plain(Trainer):
    """Takes the batches that it is given. Its evaluation draws a seed for workers that it has not, and dropout would be
    another from there on: what it draws is put back."""

    batches: Any = None

    def get_train_dataloader(self) -> Any:
        return self.batches

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        with nothing_drawn():
            return super().evaluate(*args, **kwargs)


class SameBatches:
    """Ours, epoch by epoch."""

    def __init__(self, training: Training, first: RandomState) -> None:
        self.training, self.first, self.epoch = training, first, 0

    def __len__(self) -> int:
        return self.training.batches.num_in(self.epoch)

    def __iter__(self) -> Iterator[Any]:
        if self.epoch == 0:
            self.first.restore()
        windows = self.training.batches.windows(self.epoch, 0)
        self.epoch += 1
        return (batch for window in windows for batch in window)


def by_trainer(config: TrainingConfig, data: Data, folder: Path, training: Training, first: RandomState) -> Made:
    trainer = trained_by_trainer(config, data, folder, training, first)
    points = [{key: row[key] for key in COMPARED if key in row} for row in trainer.state.log_history]
    return [point for point in points if point.keys() & {"loss", "eval_loss"}], trainer.optimizer, trainer.model


def trained_by_trainer(
    config: TrainingConfig, data: Data, folder: Path, training: Training, first: RandomState, **more: Any
) -> Trainer:
    """`more`: of Trainer's arguments, in the place of those that follow from the config; and `callbacks`."""
    model = attached(config)
    if "8bit" in config.optim:
        GlobalOptimManager.get_instance().initialize()
    callbacks = more.pop("callbacks", None)
    wanted: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": config.num_epochs,
        "max_steps": config.max_steps or -1,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler_type,
        "warmup_steps": config.warmup_ratio,
        "weight_decay": config.weight_decay,
        "optim": config.optim,
        "max_grad_norm": config.max_grad_norm,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": accumulation_steps(config, config.batch_size),
        "gradient_checkpointing": config.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "eval_strategy": config.eval_strategy,
        "eval_steps": config.eval_steps,
        "save_strategy": "no",
        "logging_steps": 1,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "seed": config.seed,
    }
    arguments = TrainingArguments(**wanted | more)
    trainer = Plain(
        model=model,
        args=arguments,
        data_collator=DataCollatorForSeq2Seq(data.tokenizer),
        train_dataset=data.train_rows,
        eval_dataset=data.eval_rows,
        processing_class=data.tokenizer,
        callbacks=callbacks,
    )
    trainer.batches = SameBatches(training, first)
    trainer.train()
    return trainer


def held_states(optimizer: torch.optim.Optimizer) -> list[tuple[str, Any]]:
    """Every value of the optimizer's states, tensor by tensor, in the order of its parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [
        (f"{number}.{key}", value)
        for number, parameter in enumerate(parameters)
        for key, value in sorted(optimizer.state[parameter].items())
    ]


def assert_same(ours: Made, theirs: Made) -> None:
    assert ours[0] == theirs[0]
    mine, plain = held_states(ours[1]), held_states(theirs[1])
    assert [name for name, _ in mine] == [name for name, _ in plain]
    for (name, value), (_, wanted) in zip(mine, plain, strict=True):
        assert (
            torch.equal(value, wanted) and value.dtype == wanted.dtype
            if isinstance(value, torch.Tensor)
            else value == wanted
        ), name
    adapter, wanted_adapter = get_peft_model_state_dict(ours[2]), get_peft_model_state_dict(theirs[2])
    assert adapter.keys() == wanted_adapter.keys()
    assert all(torch.equal(adapter[name], wanted_adapter[name]) for name in adapter)


@pytest.mark.parametrize("case", CASES)
def test_the_loop_trains_what_transformers_trainer_trains_to_the_bit(case: str, config: Make, tmp_path: Path) -> None:
    values = config(**HARD | CASES[case])
    typed, data = TrainingConfig(**values), rows_of(values, chats()[:13])
    ours, first, training = by_ours(typed, data, tmp_path / "ours")
    theirs = by_trainer(typed, data, tmp_path / "theirs", training, first)
    assert len([point for point in ours[0] if "loss" in point]) == training.batches.total_steps
    assert any("eval_loss" in point for point in ours[0])
    assert len({point["loss"] for point in ours[0] if "loss" in point}) > 2
    assert_same(ours, theirs)


STEPS = {"eval_strategy": "steps", "save_strategy": "steps"}
BEST: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "each evaluation saved": ({"eval_steps": 1, "save_steps": 1, "early_stopping_patience": 2}, STEPS),
    "every second saved": ({"eval_steps": 1, "save_steps": 2, "early_stopping_patience": 3}, STEPS),
    "a threshold": ({"eval_steps": 1, "save_steps": 1, "early_stopping_patience": 2, "early_stopping_threshold": 0.1}, STEPS),
    "a greater one is better": ({"eval_steps": 1, "save_steps": 1, "early_stopping_patience": 3, "greater_is_better": True}, STEPS),
    "by epochs, to the end": ({"eval_strategy": "epoch", "num_epochs": 6}, {"eval_strategy": "epoch", "save_strategy": "epoch"}),
}  # fmt: skip
FALLS_THEN_RISES = {
    "learning_rate": 0.05,
    "lr_scheduler_type": "constant",
    "warmup_ratio": 0.0,
    "max_grad_norm": 0.0,
    "num_epochs": 8,
}


@pytest.mark.parametrize("case", BEST)
def test_it_stops_at_the_step_and_loads_the_checkpoint_that_trainer_does(
    case: str, config: Make, tmp_path: Path
) -> None:
    keys, theirs = BEST[case]
    values = config(**HARD | FALLS_THEN_RISES | {"load_best_model_at_end": True, "save_total_limit": 2} | keys)
    typed, data = TrainingConfig(**values), rows_of(values, chats()[:13])
    training, state = assembled(typed, data)
    first, run = RandomState.now(), RunStore(tmp_path / "ours")
    run.path.mkdir()
    fit(training, state, RunReporter(run))
    step = load_best(state.model, run, state.progress, typed)
    patience, threshold = typed.early_stopping_patience, typed.early_stopping_threshold
    trainer = trained_by_trainer(
        typed,
        data,
        tmp_path / "theirs",
        training,
        first,
        **theirs,
        save_steps=typed.save_steps,
        save_total_limit=typed.save_total_limit,
        load_best_model_at_end=True,
        greater_is_better=typed.greater_is_better,
        callbacks=[EarlyStoppingCallback(patience, threshold)] if patience else None,
    )
    assert state.progress.step == trainer.state.global_step
    assert (patience is None) == (state.progress.step == training.batches.total_steps), "else this shows nothing"
    assert f"checkpoint-{step}" == Path(trainer.state.best_model_checkpoint).name
    assert 1 < step < state.progress.step or threshold, "else this shows nothing"
    ours, wanted = get_peft_model_state_dict(state.model), get_peft_model_state_dict(trainer.model)
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_so_it_does_with_the_demo_model(tmp_path: Path) -> None:
    from lora_backend.data.row_file import preview_rows
    from lora_backend.demo.config import demo_config
    from lora_backend.demo.model import prepare_demo_model
    from lora_backend.installation import this_installation

    cache = this_installation({}).cache  # the one of this machine: the model is prepared once
    prepare_demo_model(cache, lambda *_: None)
    values = {
        **demo_config(cache),
        **HARD,
        "batch_size": 4,
        "target_batch_size": 8,
        "num_epochs": 2,
        "precision": "fp32",
    }
    typed, data = (
        TrainingConfig(**values),
        rows_of(values, [dict(row.checked()) for row in preview_rows(Path(values["dataset"]), 8)]),
    )
    ours, first, training = by_ours(typed, data, tmp_path / "ours")
    assert_same(ours, by_trainer(typed, data, tmp_path / "theirs", training, first))
