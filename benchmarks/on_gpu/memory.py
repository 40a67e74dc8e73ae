"""The plan against what the allocator and NVML say, by component."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.on_gpu.card import Card
from benchmarks.on_gpu.outcome import Outcome
from benchmarks.on_gpu.sizes import Sizes
from benchmarks.on_gpu.training import config_of, loaded, padded, precision_of, rows_of, saved_model

ROWS = 2
UNDER, OVER = 0.97, 1.15
"""The planned peak of all tensors, as a share of the measured one, within which the plan holds."""


def gib(size_bytes: float | None) -> str:
    return "–" if size_bytes is None else f"{size_bytes / 2**30:.3f} GiB"


def plan(card: Card, sizes: Sizes, _: Mapping[str, Outcome]) -> Outcome:
    """One padded batch, with and without gradient checkpointing."""
    outcome = Outcome("holds", "")
    said: list[str] = []
    for checkpointing in (False, True):
        name = "checkpointing" if checkpointing else "no checkpointing"
        planned, measured = _planned(card, sizes, checkpointing), _measured(card, sizes, checkpointing)
        for part, size in planned.items():
            outcome.lines.append((f"{name}: {part}", gib(size), gib(measured[part]), "planned, measured"))
        ratio = planned["peak of all tensors"] / max(measured["peak of all tensors"] or 0, 1)
        said.append(f"{name}: planned {ratio:.3f} of the measured peak")
        outcome.figures[name] = {"planned": planned, "measured": measured}
        if not UNDER <= ratio <= OVER:
            outcome.verdict = "fails"
    outcome.words = "; ".join(said)
    return outcome


def _config(card: Card, sizes: Sizes, checkpointing: bool) -> Any:
    return config_of(
        precision=precision_of(card), batch_size=ROWS, max_length=sizes.row_tokens, batching="padded",
        gradient_checkpointing=checkpointing, max_steps=2,
    )  # fmt: skip


def _planned(card: Card, sizes: Sizes, checkpointing: bool) -> dict[str, int]:
    from lora_backend.modeling.profiling import profile_for
    from lora_backend.planning.cost.memory import Memory, Workload
    from lora_backend.planning.cost.scaling import Size

    config = _config(card, sizes, checkpointing)
    profile = profile_for(sizes.small, config)
    on_gpu = card.devices[0].startswith("cuda")
    memory = Memory(profile, Workload(Size(ROWS, sizes.row_tokens, config.r), config.optim, on_gpu=on_gpu))
    found = memory.device(range(memory.num_units))
    return {
        "weights": found.weights,
        "adapter": found.adapter,
        "optimizer": found.optimizer,
        "gradients, activations, logits": found.gradients + found.activations + found.logits,
        "peak of all tensors": found.tensors,
        "beside tensors": found.overhead,
    }


def _measured(card: Card, sizes: Sizes, checkpointing: bool) -> dict[str, int | None]:
    """The second step of a training: the optimizer's states are there from its beginning."""
    from torch.utils.data import DataLoader

    from lora_backend.modeling.label_count import labels_that_count
    from lora_backend.modeling.step import micro_batch_step
    from lora_backend.training.assembly import Data, assemble, fresh_state

    config = _config(card, sizes, checkpointing)
    before = card.allocated_bytes()
    with tempfile.TemporaryDirectory() as folder:
        model = loaded(saved_model(sizes.small, Path(folder)), config, card)
    trained = [one for one in model.parameters() if one.requires_grad]
    adapter = sum(one.numel() * one.element_size() for one in trained)
    weights = card.allocated_bytes() - before - adapter
    rows = rows_of(ROWS, sizes.row_tokens, sizes.small["vocab_size"])
    batch = padded(rows)
    loader = DataLoader(rows, batch_size=ROWS, collate_fn=padded)  # type: ignore[arg-type]
    training = assemble(model, config, config.precision, Data(loader=loader))
    state = fresh_state(model, training)

    def step() -> None:
        micro_batch_step(
            model,
            batch,
            precision=config.precision,
            loss_path=training.loss_path,
            num_items=labels_that_count(model, [batch["labels"]]),
        )
        state.optimizer.step()
        state.optimizer.zero_grad()

    step()
    there = card.allocated_bytes() - before
    card.forget_peak()
    step()
    peak = card.peak_bytes() - before
    return {
        "weights": weights,
        "adapter": adapter,
        "optimizer": there - weights - adapter,
        "gradients, activations, logits": peak - there,
        "peak of all tensors": peak,
        "beside tensors": card.beside_tensors_bytes(),
    }
