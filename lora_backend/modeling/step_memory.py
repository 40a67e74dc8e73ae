"""Measure what a training step really holds on each device, to set beside the plan."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from lora_backend.hardware.inventory import read_gpus
from lora_backend.modeling.devices import gib
from lora_backend.modeling.loss import IGNORED
from lora_backend.modeling.tracker import TensorTracker

logger = logging.getLogger(__name__)
MEASURED_STEP = 1
"""Counted from 0: from the second step on the optimizer's states are there."""


class StepMemory:
    """Watches one step. On GPUs torch's own peak counters do; on the CPU every tensor of one pass is counted."""

    def __init__(self, gpus: Sequence[int] | None = None) -> None:
        """`gpus`: those that this process computes on, by their numbers here; None: all that it sees."""
        self.result: dict[str, Any] | None = None
        self._gpus = range(torch.cuda.device_count()) if gpus is None else gpus

    @contextmanager
    def around(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None, inputs: Mapping[str, Any]
    ) -> Iterator[None]:
        """Let the block be the pass that is measured; afterwards `result` has its bytes by device.

        `inputs`: a padded batch, or a flat one, which has the `lengths` of its rows.
        """
        found = _rows_of(inputs)
        static = _static_bytes(model, optimizer)
        if torch.cuda.is_available():
            for index in self._gpus:
                torch.cuda.reset_peak_memory_stats(index)
            yield
            found["devices"] = [_gpu(index, static) for index in self._gpus]
        else:
            held = [*map(own_part, model.parameters()), *map(own_part, model.buffers()), *_states(optimizer)]
            held += [value for value in inputs.values() if isinstance(value, torch.Tensor)]
            held += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            with TensorTracker(held) as tracker:
                yield
            moving_bytes = tracker.peak_bytes()
            parts = static.get("cpu", {})
            found["devices"] = [
                {
                    "device": "cpu",
                    **parts,
                    "moving": moving_bytes,
                    "tensors": sum(parts.values()) + moving_bytes,
                    "process": int(psutil.Process().memory_info().rss),
                }
            ]
        self.result = found
        for device in found["devices"]:
            logger.info("measured in one step, device %s: tensors %s", device["device"], gib(device["tensors"]))


def _rows_of(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What rows a batch has, as a measurement's file says it."""
    # Token n predicts n + 1: the label of the first is of no use.
    labelled = {"labelled": int((inputs["labels"][:, 1:] != IGNORED).sum())}
    if "lengths" in inputs:
        lengths = [int(length) for length in inputs["lengths"]]
        return {"rows": len(lengths), "tokens": max(lengths), "padded": False, "lengths": lengths, **labelled}
    rows, tokens = inputs["input_ids"].shape
    padded = bool((inputs["attention_mask"] == 0).any())
    return {"rows": int(rows), "tokens": int(tokens), "padded": padded, **labelled}


def _static_bytes(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, dict[str, int]]:
    """Per device: weights (buffers with them), adapter, gradients that are there already, and optimizer states."""
    found: dict[str, dict[str, int]] = {}

    def add(whole: torch.Tensor, part: str) -> None:
        tensor = own_part(whole)
        key = str(tensor.device)
        parts = found.setdefault(key, {"weights": 0, "adapter": 0, "gradients": 0, "optimizer": 0})
        parts[part] += tensor.numel() * tensor.element_size()

    for parameter in model.parameters():
        add(parameter, "adapter" if parameter.requires_grad else "weights")
        if parameter.grad is not None:
            add(parameter.grad, "gradients")
    for buffer in model.buffers():
        add(buffer, "weights")
    for state in _states(optimizer):
        add(state, "optimizer")
    return found


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """Of a weight that is shared out over processes, what this one has."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _states(optimizer: torch.optim.Optimizer | None) -> list[torch.Tensor]:
    if optimizer is None:
        return []
    held = (value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor))
    return list({id(value): value for value in held}.values())  # parameters share bitsandbytes' tables


def _gpu(index: int, static: Mapping[str, dict[str, int]]) -> dict[str, Any]:
    parts = static.get(f"cuda:{index}", {"weights": 0, "adapter": 0, "gradients": 0, "optimizer": 0})
    peak_bytes = torch.cuda.max_memory_allocated(index)
    uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
    mine = [
        process.used_bytes
        for gpu in read_gpus().gpus
        if gpu.uuid == uuid
        for process in gpu.processes
        if process.pid == os.getpid()
    ]
    return {
        "device": index,
        **parts,
        "moving": peak_bytes - sum(parts.values()),
        "tensors": peak_bytes,
        "process": mine[0] if mine else None,
    }
