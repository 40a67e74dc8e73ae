"""An optimizer step of several processes as training takes it, and the bytes that it holds: what plans are held against."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.checkpointing import checkpoint_activations
from lora_backend.modeling.load import load_model
from lora_backend.modeling.step import LossPath, micro_batch_step
from lora_backend.modeling.tracker import TensorTracker
from lora_backend.peers.gradients import sum_gradients
from lora_backend.peers.peers import Peers
from lora_backend.peers.sharding import share_out
from lora_backend.planning.processes.dealt import passes_of

WORDS = 4096
TIMES = 2
"""Steps that are measured, of which the least counts: gloo's own threads let a buffer go a little later at times."""


def measured_steps(peers: Peers, folder: Path) -> None:
    """For each case of `folder`/cases.json (name → keys of its config) the bytes of a step that is not the first, at each
    rank; written as `<name>.<rank>.json`."""
    for name, keys in json.loads((folder / "cases.json").read_text()).items():
        found = _measured(TrainingConfig.model_validate(keys), peers)
        (folder / f"{name}.{peers.rank}.json").write_text(json.dumps(found))


def _measured(config: TrainingConfig, peers: Peers) -> dict[str, int]:
    torch.manual_seed(0)
    model = attach_adapter(load_model(config), config)
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.strategy == "fsdp":
        share_out(model, peers, offload=False)
    model.train()
    optimizer = torch.optim.AdamW(trained, fused=True)
    path = LossPath.of(model)
    batches = [_batch(config, index) for index in range(peers.rank, passes_of(config), peers.size)]
    num_items = passes_of(config) * int((batches[0]["labels"] != -100).sum())

    def step() -> None:
        for batch in batches:
            micro_batch_step(model, batch, precision=config.precision, loss_path=path, num_items=num_items)
        sum_gradients(trained, peers)
        optimizer.step()
        optimizer.zero_grad()

    step()
    states = [value for held in optimizer.state.values() for value in held.values()]
    inputs = [tensor for batch in batches for tensor in batch.values()]
    own = [*map(_own_part, chain(model.parameters(), model.buffers())), *states]
    return {"static": sum(one.nbytes for one in own), "moving": min(_peak(step, [*own, *inputs]) for _ in range(TIMES))}


def _batch(config: TrainingConfig, index: int) -> dict[str, torch.Tensor]:
    rows, tokens = config.batch_size, config.max_length
    ids = torch.randint(3, WORDS, (rows, tokens), generator=torch.Generator().manual_seed(index))
    labels, mask = ids.clone(), torch.ones_like(ids)
    if rows > 1:
        mask[0, -7:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _own_part(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _peak(step: Callable[[], None], known: list[torch.Tensor]) -> int:
    with TensorTracker(known) as tracker:
        step()
    return tracker.peak_bytes()


def saved_model(folder: Path, config: Any) -> dict[str, Any]:
    """A random model of this config in `folder`; its `config.json`."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found
