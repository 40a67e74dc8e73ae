"""A plan as a file holds it: what `plan --json` prints, and what a start of a run keeps of its own plan."""

from __future__ import annotations

from typing import Literal

from lora_backend.planning.verdict import Verdict
from lora_backend.typed_json import Count, Number, Part

Strategy = Literal["single", "layer_split", "cpu", "ddp", "fsdp"]


class PlannedBreakdown(Part):
    """What one device will hold at its own peak, by component; bytes."""

    weights: Count = 0
    """Of the base model, quantized as they lie in memory."""
    adapter: Count = 0
    """The trained parameters."""
    gradients: Count = 0
    """Of the trained parameters."""
    optimizer: Count = 0
    """The optimizer's states."""
    activations: Count = 0
    """What the backward pass needs of the forward pass, at its peak."""
    logits: Count = 0
    """Logits and what the loss makes of them."""
    overhead: Count = 0
    """All that is not tensors: context, workspace, fragmentation reserve."""


class PlannedDevice(Part):
    """One device of a plan, in use or not."""

    index: int | str | None = None
    """Its number on the machine, or `cpu`."""
    uuid: str | None = None
    """Of a GPU of this machine; None for the CPU and for cards that are only planned for."""
    name: str = "–"
    """As the driver or the catalogue calls it."""
    capacity_bytes: Count = 0
    """Memory of the device less what others held when it was planned."""
    breakdown: PlannedBreakdown | None = None
    """The total by component."""
    total_bytes: int | Number = 0
    """The sum of `breakdown`."""
    utilisation: float = 0.0
    """`total_bytes` / `capacity_bytes`."""
    verdict: Verdict | None = None
    """Whether it fits there, and whether that is beyond doubt."""
    uncertainty_bytes: int | Number = 0
    """By how much the true peak may be above `total_bytes`."""
    gathered_bytes: Count = 0
    """fsdp: of the weights, what is gathered from the other processes at the peak."""
    blocks: list[int] = []
    """The decoder blocks that it holds, counted from 0."""


class PlanDocument(Part):
    """A placement with its predicted bytes. Older versions wrote less of it, so much may be absent."""

    fits: bool | None = None
    """Whether no device is over its capacity."""
    verdict: Verdict | None = None
    """`fits` beyond doubt, `tight`, or `over`."""
    strategy: Strategy | str | None = None
    """`single`: one GPU; `layer_split`: blocks on several; `cpu`; `ddp`: the whole model on each; `fsdp`: a share of it on each."""
    device_map: dict[str, int | str] | None = None
    """Module → device, every module named once, as accelerate takes it; None where several processes train together."""
    num_processes: Count = 1
    """That train together on each machine."""
    num_nodes: Count = 1
    """Machines that train together."""
    bottleneck_utilisation: float | None = None
    """Of the fullest device."""
    devices: list[PlannedDevice] = []
    """Every device that was planned for; unused ones have no blocks."""
    method: str | None = None
    """`trace` or `formula`: where the figures come from."""
    expected_error: Number | None = None
    """Of the tensors, as a share."""
    precision: str | None = None
    """What `precision: auto` came to."""
    rows: Count | None = None
    """Of a batch that the plan was made for."""
    tokens: Count | None = None
    """Of its longest row."""
    assignment: list[int] | None = None
    """Of each unit (embedding, blocks, head) the position of its device in `devices`; in a run's plan only."""
    logits_on: int | None = None
    """The position in `devices` of the device that the logits came back to; in runs of older versions only."""

    @property
    def used(self) -> list[PlannedDevice]:
        """The devices that hold something."""
        return [device for device in self.devices if device.total_bytes]
