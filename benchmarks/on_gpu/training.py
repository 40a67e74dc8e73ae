"""Training of random models by Flightdeck's own parts, and by TRL."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.on_gpu.card import Card
from benchmarks.on_gpu.sizes import Sizes

SEED = 42
LORA: dict[str, Any] = {
    "r": 16, "alpha": 32, "target_modules": "all-linear", "learning_rate": 1e-3, "lr_scheduler_type": "constant",
    "warmup_ratio": 0.0, "logging_steps": 1, "seed": SEED,
}  # fmt: skip
Row = dict[str, list[int]]


def config_of(**keys: Any) -> Any:
    """A config of ours; model and data are given by hand, so that their names are not read."""
    from lora_backend.config.schema import TrainingConfig

    return TrainingConfig.model_validate({"model_name": "by hand", "dataset": "by hand", **LORA, **keys})


def precision_of(card: Card) -> str:
    """bf16 on a GPU; on a CPU, where only the script is tested, fp32."""
    return "bf16" if card.devices[0].startswith("cuda") else "fp32"


def saved_model(facts: dict[str, Any], folder: Path) -> str:
    """A folder with random weights of this config, which the product loads as any other."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(SEED)
    config = AutoConfig.for_model(**facts)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return str(folder)


def loaded(model: str, config: Any, card: Card) -> Any:
    """The base model with its adapter, as a run loads it, all on the first device."""
    import torch

    from lora_backend.modeling.adapter import attach_adapter
    from lora_backend.modeling.load import load_model

    device = card.devices[0]
    torch.manual_seed(SEED)
    place: int | str = int(device.partition(":")[2]) if device.startswith("cuda") else "cpu"
    return attach_adapter(load_model(config.model_copy(update={"model_name": model}), {"": place}), config)


def made_on_device(facts: dict[str, Any], config: Any, card: Card) -> Any:
    """A random model made where it is trained, in its number format: no disk, and a fraction of the time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from lora_backend.modeling.adapter import attach_adapter
    from lora_backend.modeling.devices import DTYPES

    torch.manual_seed(SEED)
    with torch.device(card.devices[0]):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**facts), dtype=DTYPES[config.precision])
    return attach_adapter(model, config)


def rows_of(num: int, tokens: int, vocabulary: int, *, mixed: bool = False) -> list[Row]:
    """Random rows, all of them learned; `mixed`: of many lengths up to `tokens`."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    found: list[Row] = []
    for number in range(num):
        length = max(tokens * (number % 4 + 1) // 4, 2) if mixed else tokens
        ids = torch.randint(5, vocabulary, (length,), generator=generator).tolist()
        found.append({"input_ids": ids, "labels": list(ids), "attention_mask": [1] * length})
    return found


def padded(rows: Sequence[Row]) -> dict[str, Any]:
    import torch

    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 3, "labels": -100, "attention_mask": 0}
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }


@dataclass
class Trained:
    """What was noted of a training."""

    losses: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    """Of each optimizer step, by `time.perf_counter`."""

    def tokens_per_s(self, warm: int) -> float:
        """Over the steps behind the first `warm`."""
        return sum(self.tokens[warm:]) / max(self.ends[-1] - self.ends[warm - 1], 1e-9)


def train_ours(model: Any, config: Any, rows: Sequence[Row], card: Card) -> Trained:
    """By the product's own loop, on these rows in their order, from the caller's own batches."""
    from torch.utils.data import DataLoader

    from lora_backend.training.assembly import Data, assemble, fresh_state
    from lora_backend.training.loop import fit
    from lora_backend.training.reporter import RunReporter
    from tests.run_files import make_run

    noted = Trained()

    class Watching(RunReporter):
        def step_done(self, step: int, epoch: float) -> None:
            card.wait()
            noted.ends.append(time.perf_counter())
            noted.tokens.append(self.num_tokens)
            super().step_done(step, epoch)

        def trained(self, step: int, epoch: float, **figures: Any) -> None:
            noted.losses.append(figures["loss"])
            super().trained(step, epoch, **figures)

    loader = DataLoader(list(rows), batch_size=config.batch_size, collate_fn=padded)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), config={}, config_text="", argv=None)
        training = assemble(model, config, config.precision, Data(loader=loader))
        fit(training, fresh_state(model, training), Watching(run))
    return noted


def train_trl(model: Any, sizes: Sizes, rows: Sequence[Row], card: Card, *, checkpointing: bool) -> Trained:
    """By TRL's SFTTrainer, with the same batch, on the same rows."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from tests.tiny import save_tokenizer

    noted = Trained()

    class Watching(TrainerCallback):  # type: ignore[misc]  # transformers' class is untyped
        def on_step_end(self, *_: Any, **__: Any) -> None:
            card.wait()
            noted.ends.append(time.perf_counter())
            noted.tokens.append(sizes.micro_batch * sizes.accumulation * sizes.large_tokens)

    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(Path(folder) / "tokenizer")
        arguments = SFTConfig(
            output_dir=folder, per_device_train_batch_size=sizes.micro_batch,
            gradient_accumulation_steps=sizes.accumulation, max_length=sizes.large_tokens, max_steps=sizes.timed_steps + 1,
            learning_rate=LORA["learning_rate"], lr_scheduler_type="constant", bf16=precision_of(card) == "bf16",
            gradient_checkpointing=checkpointing, use_cpu=not card.devices[0].startswith("cuda"), report_to="none",
            save_strategy="no", disable_tqdm=True, logging_steps=1, seed=SEED, dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list([dict(row) for row in rows]),
            processing_class=PreTrainedTokenizerFast.from_pretrained(Path(folder) / "tokenizer"),
            callbacks=[Watching()],
        )
        trainer.train()
    return noted
