"""The best split for a process that sees its GPUs in an order of its own: transformers puts the inputs on `cuda:0`, and
accelerate brings the logits back there, wherever the embedding is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.split.partition import Costs, Device, Split, Stage, partition


def split_with_inputs_on_first(memory: Memory, devices: Sequence[Device], *, every_device: bool) -> Split:
    """The least bottleneck where device 0 gets the logits if it holds anything, and the embedding's device otherwise."""
    with_first = partition(
        Costs(
            memory.interval_bytes_on(gets_logits=False),
            memory.is_block,
            first_interval_bytes=memory.interval_bytes_on(gets_logits=True),
        ),
        devices,
        every_device=every_device,
    )
    if every_device or len(devices) == 1:
        return with_first
    others = partition(Costs(memory.interval_bytes, memory.is_block), devices[1:])
    if with_first.bottleneck <= others.bottleneck:
        return with_first
    stages = (Stage(stage.device + 1, stage.start, stage.stop) for stage in others.stages)
    return replace(others, stages=tuple(stages), is_exact=with_first.is_exact and others.is_exact)
