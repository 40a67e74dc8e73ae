"""Bytes of a training step on one device, from a profile: sums of its parts in the order in which they happen.

A device runs the forward pass of the units that it holds, waits for the rest of the model, and runs their backward
pass in the other order. Its peak is the highest of these moments, or that of the optimizer's step:

- forward of unit u: what the units before it kept + the part's own peak
- the loss: what all units kept + the head's peak
- backward of unit u: what the units up to u kept + the gradients of those behind it + the part's own peak
- where several processes train together: all gradients + the buffer through which they are summed

The order was read in `modeling/step.py` and in accelerate's hooks; `docs/memory-model.md` has what it was measured by.

Inputs go to the embedding's device. Logits and loss stay on the head's: a model is loaded without the return of its outputs
that accelerate's root hook makes (`io_same_device`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lora_backend.errors import UntrainableError
from lora_backend.i18n import N_
from lora_backend.planning.cost.intervals import Model, Moments, interval_bytes
from lora_backend.planning.cost.moments import Moment
from lora_backend.planning.cost.optimizers import states_bytes, transient_bytes
from lora_backend.planning.cost.profile import Part, Profile, Unit
from lora_backend.planning.cost.scaling import Size, Vector

CONTEXT_BYTES = 500 * 2**20
"""CUDA context and cuBLAS workspace of a device that is used. An assumption: 300 to 600 MiB are reported by card and driver."""
RESERVE = 0.04
"""Of all tensors that come and go, for what the allocator cannot use between them. An assumption, not a measurement."""
COMMUNICATOR_BYTES = 300 * 2**20
"""NCCL's buffers on each GPU of a run of several processes. An assumption: 200 to 400 MiB are reported, by channels and links."""
SUM_BUCKET_BYTES = 64 * 2**20
"""Gradients are summed over processes by way of flat buffers of at most so many bytes; a larger one goes without (`peers/gradients.py`)."""
MOST_BYTES = 2**50
"""Beyond any device; sums of bytes are exact numbers up to 2**53."""
MANY_ROWS = 2**16
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class Workload:
    """How a model is trained, as far as a profile leaves it open."""

    size: Size
    optim: str = "adamw_torch_fused"
    accumulates: bool = False
    """Gradients of several passes are summed: they are there in the forward pass as well."""
    updates: bool = True
    """Whether the optimizer's step counts too; it is no part of a pass that is measured."""
    on_gpu: bool = True
    """Without a GPU there is no CUDA context, and the optimizer goes through its tensors one by one."""
    num_processes: int = 1
    """That train together, on all machines: each has a copy of what is told here."""
    is_sharded: bool = False
    """Whether each process keeps only its share of the base model's weights, and gathers the rest block by block (fsdp)."""
    offloads: bool = False
    """Whether those shares lie in host memory, as far as there is a GPU to offload."""


@dataclass(frozen=True)
class Breakdown:
    """Bytes of one device at its own peak; they sum to `total`."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    overhead: int
    """What is no tensor: CUDA context, cuBLAS workspace, and a reserve for fragmentation."""

    @property
    def total(self) -> int:
        return sum(vars(self).values())

    @property
    def tensors(self) -> int:
        """All but the overhead: what a trace can be held against."""
        return self.total - self.overhead


EMPTY = Breakdown(0, 0, 0, 0, 0, 0, 0)


class Memory:
    """A profile at one workload. Units are numbered: 0 is the embedding, then the blocks, then the head.

    Where embedding and head are one tensor there is no unit of the head: it belongs to unit 0. `values`: the monomials of
    another batch than that of the workload's size, at its rank.
    """

    def __init__(self, profile: Profile, workload: Workload, values: Vector | None = None) -> None:
        self.profile = profile
        self.workload = workload
        self._values = profile.monomials(workload.size) if values is None else values
        rank = workload.size.rank
        trainable = profile.trainable(rank)
        itemsize = BYTES[profile.settings.adapter_precision if profile.settings.precision != "fp32" else "fp32"]
        units = (profile.embed, profile.head, *profile.kinds)
        largest = max((tensors.size(rank) for unit in units for tensors in unit.trained), default=0)
        step_bytes = transient_bytes(workload.optim, trainable, itemsize, largest, on_gpu=workload.on_gpu)
        self._itemsize = itemsize
        self._transient_per_parameter = step_bytes / max(trainable, 1)
        kinds = [self._moments(kind) for kind in profile.kinds]
        self._blocks = [kinds[kind] for kind in profile.kind_of_block]
        self._embed, self._head = self._moments(profile.embed), self._moments(profile.head)
        self._returns_peak, self._returns_delta = self._peak(profile.returns), self._at(profile.returns.delta)
        self._hidden = self._at(profile.hidden)

    @property
    def num_units(self) -> int:
        return self.profile.num_units

    @property
    def is_block(self) -> tuple[bool, ...]:
        """Per unit."""
        return tuple(0 < unit <= len(self._blocks) for unit in range(self.num_units))

    def weights_bytes(self, unit: int) -> int:
        """Of the base model's weights in one unit."""
        blocks = len(self._blocks)
        if 0 < unit <= blocks:
            return round(self._blocks[unit - 1].weights)
        if unit == 0:
            return round(self._embed.weights + (self._head.weights if self.profile.is_tied else 0))
        return round(self._head.weights)

    def _at(self, vector: Vector) -> float:
        return float(vector @ self._values)

    def _peak(self, part: Part) -> float:
        return max((self._at(peak) for peak in part.peaks), default=0.0)

    def _moments(self, unit: Unit) -> Moments:
        rank = self.workload.size.rank
        trainable = unit.trainable(rank)
        gradients = float(trainable * self._itemsize)
        return Moments(
            weights=unit.weights_bytes,
            adapter=trainable * self._itemsize,
            gradients=gradients,
            optimizer=states_bytes(self.workload.optim, unit.trained, rank, self._itemsize),
            forward_peak=self._peak(unit.forward),
            forward_delta=self._at(unit.forward.delta),
            backward_peak=self._peak(unit.backward),
            # Where gradients are summed over several passes they are there from the beginning.
            backward_delta=self._at(unit.backward.delta) - (gradients if self.workload.accumulates else 0.0),
            side=self._at(unit.side_inputs),
            released=self._at(unit.released),
        )

    # -------------------------------------------------------------------------------- any set of units

    def device(self, units: Sequence[int]) -> Breakdown:
        """What a device holds at its peak that has these units, in ascending order. A copy of what its inputs are
        is made on every device but the embedding's (accelerate's hooks).
        """
        if not units:
            return EMPTY
        return self._breakdown(units, max(self._moments_on(units)))

    def _held(self, units: Sequence[int]) -> list[Moments]:
        last = len(self._blocks) + 1
        has_head = units[0] == 0 if self.profile.is_tied else units[-1] == last
        blocks = [self._blocks[unit - 1] for unit in units if 0 < unit < last]
        return [*([self._embed] if units[0] == 0 else []), *blocks, *([self._head] if has_head else [])]

    def _moments_on(self, units: Sequence[int]) -> list[Moment]:
        """All that may be the highest, on a device that has these units."""
        last = len(self._blocks) + 1
        has_embed = units[0] == 0
        has_head = has_embed if self.profile.is_tied else units[-1] == last
        blocks = [(unit - 1, self._blocks[unit - 1]) for unit in units if 0 < unit < last]
        all_gradients = sum(unit.gradients for unit in self._held(units))
        there = all_gradients if self.workload.accumulates else 0.0
        now = there
        moments: list[Moment] = []
        if has_embed:
            moments.append(Moment(now + self._embed.forward_peak, there, 0, "embed", before=now))
            now += self._embed.forward_delta
        else:
            now += self._hidden
        for index, block in blocks:
            now += 0.0 if has_embed else block.side
            moments.append(Moment(now + block.forward_peak, there, 0, "forward", index, now))
            now += block.forward_delta
        before_head, released = now, sum(block.released for _, block in blocks)
        if has_head:
            moments.append(Moment(now + self._head.forward_peak, there, self._head.forward_peak, "head", before=now))
            now += self._head.forward_delta
        now, before_head = now - released, before_head - released
        if has_head:
            peak = now + self._returns_peak
            moments.append(Moment(peak, there, peak - before_head, "returns", before=now))
            now += self._returns_delta
            peak = now + self._head.backward_peak
            moments.append(Moment(peak, there, peak - before_head, "loss_back", before=now))
            now += self._head.backward_delta
        done = self._head.gradients if has_head else 0.0
        for index, block in reversed(blocks):
            moments.append(Moment(now + block.backward_peak, there or done, 0, "back", index, now))
            now += block.backward_delta
            done += block.gradients
        if has_embed:
            moments.append(Moment(now + self._embed.backward_peak, there or done, 0, "embed_back", before=now))
        return moments + self._after_the_passes(units, all_gradients)

    def _after_the_passes(self, units: Sequence[int], all_gradients: float) -> list[Moment]:
        """The sum over processes, and the optimizer's step."""
        if not self.workload.updates:
            return []
        transient = sum(unit.adapter for unit in self._held(units)) / self._itemsize * self._transient_per_parameter
        found = [Moment(all_gradients + transient, all_gradients, 0, "update")]
        if self.workload.num_processes > 1:
            buffer = min(all_gradients, SUM_BUCKET_BYTES)
            found.append(Moment(all_gradients + buffer, all_gradients, 0, "sum"))
        return found

    def _breakdown(self, units: Sequence[int], highest: Moment) -> Breakdown:
        held, moving = self._held(units), round(highest.moving)
        gradients, logits = round(highest.gradients), round(highest.logits)
        return Breakdown(
            weights=round(sum(unit.weights for unit in held)),
            adapter=round(sum(unit.adapter for unit in held)),
            gradients=gradients,
            optimizer=round(sum(unit.optimizer for unit in held)),
            activations=moving - gradients - logits,
            logits=logits,
            overhead=self.overhead_bytes + round(RESERVE * moving),
        )

    @property
    def overhead_bytes(self) -> int:
        """Of each device that is used, whatever it holds."""
        if not self.workload.on_gpu:
            return 0
        return CONTEXT_BYTES + (COMMUNICATOR_BYTES if self.workload.num_processes > 1 else 0)

    # ------------------------------------------------------------------------------ all intervals at once

    @cached_property
    def interval_bytes(self) -> NDArray[np.int64]:
        """(units + 1, units + 1): [i, j] is what units i to j − 1 take on one device, without `overhead_bytes`.

        The same sums as `device` makes, for all intervals together; made monotone, so that a larger interval never
        takes less.
        """
        units = (self._embed, *self._blocks, *(() if self.profile.is_tied else (self._head,)))
        model = Model(
            units,
            self._head,
            is_tied=self.profile.is_tied,
            hidden=self._hidden,
            returns_peak=self._returns_peak,
            returns_delta=self._returns_delta,
            accumulates=self.workload.accumulates,
            stepping_per_adapter=self._transient_per_parameter / self._itemsize,
        )
        whole = interval_bytes(model, RESERVE, embed_first=True)
        whole[1:] = interval_bytes(model, RESERVE, embed_first=False)[1:]
        if not whole[0, -1] < MOST_BYTES:
            raise UntrainableError(
                N_(
                    "A training step would take more than a million GiB, which no device has. Lower `batch_size` and `max_length`, or check the sizes in the model's config.json."
                ),
                about="batch_size" if self.workload.size.rows > MANY_ROWS else "max_length",
            )
        upper = np.triu(np.ceil(whole), 1)
        # From the last row up, and along each row: an interval takes at least what any part of it takes.
        upper = np.maximum.accumulate(upper[::-1], axis=0)[::-1]
        upper = np.maximum.accumulate(upper, axis=1)
        assert upper.shape == (self.num_units + 1, self.num_units + 1)
        return np.triu(upper, 1).astype(np.int64)
