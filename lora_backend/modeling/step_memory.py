"""Measure what a training step really holds on each device, to set beside the plan."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import nn

from lora_backend.hardware.inventory import read_gpus
from lora_backend.modeling.devices import gib
from lora_backend.modeling.loss import IGNORED
from lora_backend.modeling.tracker import TensorTracker

logger = logging.getLogger(__name__)
MEASURED_STEP = 1
"""Counted from 0: from the second step on the optimizer's states are there."""


class StepMemory:
    """Watches one step. On GPUs torch's own peak counters do; on the CPU every tensor of one pass is counted."""

    def __init__(self) -> None:
        self.result: dict[str, Any] | None = None

    @contextmanager
    def around(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None, inputs: Mapping[str, torch.Tensor]
    ) -> Iterator[None]:
        """Let the block be the pass that is measured; afterwards `result` has its bytes by device."""
        rows, tokens = inputs["input_ids"].shape
        found: dict[str, Any] = {
            "rows": int(rows),
            "tokens": int(tokens),
            "padded": bool((inputs["attention_mask"] == 0).any()),
            # Token n predicts n + 1: the label of the first is of no use.
            "labelled": int((inputs["labels"][:, 1:] != IGNORED).sum()),
        }
        static = _static_bytes(model, optimizer)
        if torch.cuda.is_available():
            for index in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(index)
            yield
            found["devices"] = [_gpu(index, static) for index in range(torch.cuda.device_count())]
        else:
            held = [*model.parameters(), *model.buffers(), *_states(optimizer), *inputs.values()]
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


def _static_bytes(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, dict[str, int]]:
    """Per device: weights (buffers with them), adapter, gradients that are there already, and optimizer states."""
    found: dict[str, dict[str, int]] = {}

    def add(tensor: torch.Tensor, part: str) -> None:
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
