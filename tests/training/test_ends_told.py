"""Thirty-five seeded runs of a real model, seven of them in every test: how each one's loss went is told rightly.

What happens to a run here is decided by its data, its weights or a change of its settings, and by no rounding: so it
comes out alike on every processor.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from lora_backend.errors import FlightdeckError
from lora_backend.installation import this_installation
from lora_backend.runs.history.loss_health import health_of
from lora_backend.runs.history.run_table import read_row
from lora_backend.runs.record.run_store import RunStore
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.trainer.session import training_session
from lora_backend.training.recipe import train
from lora_backend.views.state_view import state_message
from tests.resolving import from_here
from tests.tiny import chats, make_word_nan, write_rows
from tests.training.helpers import made, resumed, run, stopped_at

Make = Callable[..., dict[str, Any]]
Kind = Callable[[Make, Path, Path, int], RunStore]
LOUD = {"target_modules": ["lm_head"], "alpha": 1e5}
"""The one layer behind the last norm, whose part in the logits has no bound, and that part 25,000-fold."""
TOO_FAST, SLOW = 1.0, 1e-8
"""Rates for it: Adam's first update alone moves logits by thousands, whatever the gradient, or by hardly anything."""


def ordinary(config: Make, workspace: Path, model: Path, seed: int) -> RunStore:
    return run(workspace, config(seed=seed, num_epochs=4, logging_steps=(1, 10)[seed % 2]))


def diverging_at_step_3(config: Make, workspace: Path, model: Path, seed: int) -> RunStore:
    """The first step's rate is 0, the second's is not, the third shows it."""
    values = {"learning_rate": TOO_FAST, "warmup_ratio": 0.05, "logging_steps": (1, 10)[seed % 2]}
    return run(workspace, config(seed=seed, num_epochs=5, **LOUD, **values))


def diverging_at_step_200(config: Make, workspace: Path, model: Path, seed: int) -> RunStore:
    folder = stopped_at(workspace, config(seed=seed, num_epochs=52, learning_rate=SLOW, **LOUD), 200)
    assert not health_of(folder).is_bad
    return resumed(folder, {"learning_rate": TOO_FAST})


def oscillating(config: Make, workspace: Path, model: Path, seed: int) -> RunStore:
    """Batches that are learned, and batches of noise, which nobody learns, in turns."""
    draw = torch.Generator().manual_seed(seed)
    learned = torch.randint(7, 30, (4, 12), generator=draw)
    batches = [
        learned if number % 2 else torch.randint(7, 30, (4, 12), generator=draw) for number in range(36 + seed % 2)
    ]
    loader: DataLoader[Any] = DataLoader([row for batch in batches for row in batch], batch_size=4, collate_fn=_batch)  # type: ignore[arg-type]
    values = config(seed=seed, num_epochs=1, dataset=...)
    folder = made(workspace, values)
    with training_session(folder, this_installation()):
        train(from_here(values), folder, loader)
    return folder


def no_number(config: Make, workspace: Path, model: Path, seed: int) -> RunStore:
    """One row among twenty-five holds a word whose embedding is NaN."""
    bad = make_word_nan(shutil.copytree(model, workspace.parent / "bad_model"), "green")
    rows = sorted(chats(8), key=lambda row: "green" in json.dumps(row))[:25]
    data = write_rows(workspace.parent / "one_bad.jsonl", rows)
    folder = made(workspace, config(seed=seed, model_name=str(bad), dataset=str(data)))
    with pytest.raises(FlightdeckError):
        train_in_folder(folder)
    return folder


def dead(config: Make, workspace: Path, model: Path, seed: int) -> RunStore:
    """A head of zeros gives every token the same chance, and no gradient to what lies before it."""
    silent = shutil.copytree(model, workspace.parent / "silent_model")
    tensors = load_file(silent / "model.safetensors")
    tensors["lm_head.weight"].zero_()
    save_file(tensors, silent / "model.safetensors", metadata={"format": "pt"})
    return run(workspace, config(seed=seed, model_name=str(silent), logging_steps=(1, 10)[seed % 2]))


def plateau(config: Make, workspace: Path, model: Path, seed: int) -> RunStore:
    """A rate near 0 leaves the loss where it began; one that falls to 0, where it has come."""
    values = {"learning_rate": 1e-9} if seed % 2 else {"num_epochs": 10, "lr_scheduler_type": "cosine"}
    return run(workspace, config(seed=seed, **values))


def _batch(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    ids = torch.stack(rows)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


TOLD: dict[Kind, tuple[str | None, str]] = {
    ordinary: ("ok", "Finished"),
    diverging_at_step_3: ("diverged", "Finished, loss"),
    diverging_at_step_200: ("diverged", "Finished, loss"),
    oscillating: ("ok", "Finished"),
    no_number: (None, "Failed"),
    dead: ("dead", "Finished, dead"),
    plateau: ("ok", "Finished"),
}


@pytest.mark.parametrize("kind", TOLD, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 5))])
def test_how_a_run_went_is_told_rightly(kind: Kind, seed: int, config: Make, workspace: Path, tiny_model: Path) -> None:
    folder = kind(config, workspace, tiny_model, seed)
    code, word = TOLD[kind]
    row = read_row(folder)
    assert row is not None
    assert code in (None, row.health.code)
    said = state_message(row.state.state, row.health).text("en")
    assert said.startswith(word)
    assert (said == word) == (code in (None, "ok"))
