"""Bytes of a training step where each process keeps a share of the base model's weights: torch's `fully_shard` (FSDP2).

Each block is a group of its own; embedding, head and all else are the root's group. What is gathered when was read in
torch 2.13 (`torch/distributed/fsdp/_fully_shard`: `_fsdp_param_group.py`, `_fsdp_collectives.py`, `_fsdp_state.py`) and
measured by the allocator's events on two processes (docs/memory-model.md). R, B and F: the root's weights, a block's, and
the flat buffer in which a group's weights arrive, as large as they are:

- forward: the root is gathered first and stays to its end. A group's buffer is let go when the next group has arrived, its
  weights when its forward is done. Before block u arrives: R + F(u − 1) + F(u); while it computes: R + B(u) + F(u); head and
  loss: R + F(last)
- between the passes: nothing, for the root is let go as well (`peers/sharding.py`)
- backward: the root arrives again, R + F(root), and stays to the end; for the head's backward the last block is on its way,
  R + F(last). Block u: R + B(u) + F(u) when it has arrived; then F(u) goes and block u − 1 is asked for: R + B(u) + F(u − 1)
- the first block stays gathered to the end, for nothing before it has a gradient that would say it is done
- the optimizer's step and the sum of gradients: nothing is gathered

Trained parameters are not sharded: they are small, every process has them whole, and their gradients are summed once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lora_backend.planning.cost.memory import BYTES, EMPTY, RESERVE, Breakdown, Memory, Workload
from lora_backend.planning.cost.moments import Moment, Phase
from lora_backend.planning.cost.profile import Profile, Unit
from lora_backend.planning.cost.scaling import Vector

ARRIVES_BEFORE: dict[Phase, Phase] = {"forward": "arrives", "back": "arrives_back", "loss_back": "root_back"}
"""Parts of the step → what happens just before them: their group's weights arrive."""


class Shares(NamedTuple):
    """Of a group's weights, in bytes."""

    sharded: int
    """Parameters: each process keeps its share of them."""
    whole: int
    """Buffers, which every process has whole."""


def shares_of(profile: Profile, unit: Unit, *, is_block: bool = True) -> Shares:
    """Parameters and buffers apart; where weights are not all in the base model's format, what is more counts as buffers.

    An embedding or a head with a LoRA on it is saved beside the adapter, and for that every process has it whole.
    """
    if not is_block and any(tensors.per_rank for tensors in unit.trained):
        return Shares(0, unit.weights_bytes)
    parameters = unit.parameters * BYTES[profile.settings.precision]
    return Shares(min(parameters, unit.weights_bytes), max(unit.weights_bytes - parameters, 0))


class ShardedMemory(Memory):
    """What one of several processes holds on its device, that has a share of every weight and computes the whole model."""

    def __init__(self, profile: Profile, workload: Workload, values: Vector | None = None) -> None:
        super().__init__(profile, workload, values)
        kinds = [shares_of(profile, kind) for kind in profile.kinds]
        self._block_shares = [kinds[kind] for kind in profile.kind_of_block]
        ends = [shares_of(profile, unit, is_block=False) for unit in (profile.embed, profile.head)]
        self._root_share = Shares(sum(one.sharded for one in ends), sum(one.whole for one in ends))

    @property
    def block_bytes(self) -> list[int]:
        """Of each block, the weights that are shared out."""
        return [share.sharded for share in self._block_shares]

    @property
    def root_bytes(self) -> int:
        """Likewise of all that is no block."""
        return self._root_share.sharded

    @property
    def share_bytes(self) -> int:
        """Of all weights that are shared out, what one process keeps; the last share of a tensor may be filled up."""
        return -(-(self.root_bytes + sum(self.block_bytes)) // self.workload.num_processes)

    @property
    def whole_bytes(self) -> int:
        """Of what every process has whole."""
        return self._root_share.whole + sum(share.whole for share in self._block_shares)

    def device(self, units: Sequence[int]) -> Breakdown:
        """Of the whole model, for every process computes all of it; `weights` are its share and what is gathered."""
        if not units:
            return EMPTY
        highest, gathered = self._highest(units)
        found = self._breakdown(units, highest)
        kept = self.whole_bytes + (0 if self.workload.offloads else self.share_bytes)
        reserve = round(RESERVE * (highest.moving + gathered))
        return Breakdown(**vars(found) | {"weights": kept + gathered, "overhead": self.overhead_bytes + reserve})

    def gathered_bytes(self, units: Sequence[int]) -> int:
        """Of `device(units).weights`, what is there for a moment and belongs to the others."""
        return self._highest(units)[1] if units else 0

    def _highest(self, units: Sequence[int]) -> tuple[Moment, int]:
        return max(
            ((moment, self._gathered(moment)) for moment in self._with_arrivals(units)),
            key=lambda found: (found[0].moving + found[1], found[0]),
        )

    def _with_arrivals(self, units: Sequence[int]) -> list[Moment]:
        """The step's moments, and those at which a block's weights have just arrived."""
        found: list[Moment] = []
        for moment in self._moments_on(units):
            if moment.phase in ARRIVES_BEFORE:
                moving = max(moment.before, moment.gradients)
                logits = min(moment.logits, moving - moment.gradients)
                found.append(moment._replace(moving=moving, logits=logits, phase=ARRIVES_BEFORE[moment.phase]))
            found.append(moment)
        return found

    def _gathered(self, moment: Moment) -> int:
        blocks, root = self.block_bytes, self.root_bytes
        block, before = blocks[moment.block], blocks[moment.block - 1] if moment.block else 0
        # A share that lies in host memory is copied to the device before it is sent.
        copied = self.workload.num_processes if self.workload.offloads else 0
        own, own_before = (-(-size // copied) if copied else 0 for size in (block, before))
        return {
            "embed": 2 * root,
            "arrives": root + (before or root) + block + own,
            "forward": root + 2 * block,
            "head": root + blocks[-1],
            "returns": 0,
            "root_back": 2 * root,
            "loss_back": root + blocks[-1],
            "arrives_back": root + block + max(block, before + own_before),
            "back": root + block + before,
            "embed_back": root + blocks[0],
            "sum": 0,
            "update": 0,
        }[moment.phase]


def memory_of(profile: Profile, workload: Workload, values: Vector | None = None) -> Memory:
    """What a device holds of this model in this workload; `values` as in `Memory`."""
    return (ShardedMemory if workload.is_sharded else Memory)(profile, workload, values)
