"""What was planned for a step beside what it really held, per device and component."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.installation import Installation
from lora_backend.planning.cost.memory import Breakdown
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.shards import ShardedMemory, memory_of
from lora_backend.planning.cost.trace_settings import Batch
from lora_backend.planning.planner import workload_of
from lora_backend.planning.profile_store import ProfileStore
from lora_backend.preflight.plan_question import model_facts
from lora_backend.runs.record.attempts import Attempt, HeldTensors, MeasuredRows

COMPONENTS = ("weights", "adapter", "gradients", "optimizer", "moving")
Held = dict[tuple[int | str, int | None], HeldTensors]
"""By device and process; the process is None where one trains alone."""
ProfileOfBatch = Callable[[TrainingConfig, Batch], Profile | None]
"""The profile of the config's model for one real batch; None where it is not known."""


@dataclass(frozen=True)
class Comparison:
    """One device, of several processes for each that is on it. Bytes; None where one of the two is not known."""

    device: int | str
    planned_at_most: int
    """For the longest rows that the config lets through, tensors and overhead."""
    expected: Mapping[str, int] | None
    """By component, tensors alone, for the rows that the measured step really had."""
    measured: Mapping[str, int] | None
    process_bytes: int | None
    """What the driver or the system says of the whole process."""
    rank: int | None = None
    """Of several processes, the one that holds it."""

    @property
    def expected_bytes(self) -> int | None:
        """All tensors of the measured step, as planned for just that step."""
        return sum(self.expected.values()) if self.expected else None

    @property
    def measured_bytes(self) -> int | None:
        """All tensors of the measured step."""
        return sum(self.measured.values()) if self.measured else None

    @property
    def difference(self) -> float | None:
        """(expected − measured) / measured, over all tensors."""
        expected, measured = self.expected_bytes, self.measured_bytes
        return (expected - measured) / measured if expected is not None and measured else None


def compare(attempt: Attempt, config: Mapping[str, Any], installation: Installation) -> list[Comparison]:
    """Every device of an attempt's plan; empty where the attempt has no plan, or but a part of one.

    What was expected stands in the attempt when its run has ended; before that it is there where its profile is known.
    """
    plan = attempt.plan
    if plan is None or not all(device.model_fields_set >= {"index", "total_bytes"} for device in plan.devices):
        return []
    seen = by_device(attempt.measured.devices if attempt.measured else (), {"process"})
    expected = by_device(attempt.expected.devices if attempt.expected else ()) or _known(attempt, config, installation)
    found = []
    for device in plan.devices:
        if device.index is None:
            continue
        ranks: list[int | None] = [*sorted(rank for index, rank in seen if index == device.index and rank is not None)]
        for rank in ranks or [None]:
            held, total = seen.get((device.index, rank)), int(device.total_bytes)
            found.append(
                Comparison(
                    device.index,
                    # Processes without GPUs share the machine's memory, and its plan is that of all of them.
                    total // plan.num_processes if device.index == "cpu" and rank is not None else total,
                    _parts(expected.get((device.index, rank))),
                    _parts(held),
                    None if held is None else _whole(held.process),
                    rank,
                )
            )
    return found


def by_device(found: Sequence[HeldTensors], beside: Set[str] = frozenset()) -> Held:
    """A measurement's devices, or those of what was expected, that have every component and what is `beside` them; of
    several processes each has its own. Where nothing says whose it is (older versions), the first stands for all."""
    return {
        (held.device, held.rank): held
        for held in reversed(found)
        if held.model_fields_set >= beside and all(getattr(held, name) is not None for name in COMPONENTS)
    }


def expected_by_device(
    attempt: Attempt, config: TrainingConfig, profile_of: ProfileOfBatch, rank: int | None = None
) -> list[HeldTensors] | None:
    """The plan's devices in the pass that was measured: bytes by component, tensors alone; of several processes those of
    `rank`, with the rows that it had.

    None where nothing was planned or measured, or the profile is not known.
    """
    plan, measured = attempt.plan, attempt.measured
    if measured is None or not measured.model_fields_set >= {"rows", "tokens", "padded", "devices"}:
        return None
    if plan is None or not plan.model_fields_set >= {"assignment", "precision", "strategy", "devices"}:
        return None
    own = {held.device: held for held in measured.devices if held.rank == rank}
    if not own:
        return None
    batch, assignment = _batch_of(measured.rows_of(rank)), plan.assignment or []
    profile = profile_of(config.model_copy(update={"precision": plan.precision}), batch)
    if profile is None:
        return None
    accumulates = any(held.gradients for held in own.values())
    workload = replace(
        workload_of(config, ()),
        # A flat batch is one line: its profile is for just its rows, and a formula goes by the sum of their tokens.
        size=Size(*((1, batch.total) if batch.lengths else (batch.rows, batch.tokens)), config.r),
        accumulates=accumulates,
        updates=False,
        on_gpu=any(device.index != "cpu" for device in plan.used),
        num_processes=plan.num_processes * plan.num_nodes,
        is_sharded=plan.strategy == "fsdp",
    )
    workload = replace(workload, offloads=workload.is_sharded and config.fsdp_offload_params and workload.on_gpu)
    memory = memory_of(profile, workload)
    if plan.strategy in ("ddp", "fsdp"):
        units = {index: [*range(memory.num_units)] for index, device in enumerate(plan.devices) if device.blocks}
    elif len(assignment) == memory.num_units:
        units = {place: [unit for unit, at in enumerate(assignment) if at == place] for place in set(assignment)}
    else:
        return None
    found = []
    for index, device in enumerate(plan.devices):
        held = units.get(index, [])
        if device.index is not None and (rank is None or device.index in own):
            gathered = memory.gathered_bytes(held) if isinstance(memory, ShardedMemory) else 0
            parts = _components(memory.device(held), accumulates, gathered)
            found.append(HeldTensors(device=device.index, rank=rank, **parts))
    return found


def _batch_of(measured: MeasuredRows) -> Batch:
    """The rows that a measured pass had."""
    lengths = tuple(measured.lengths) if measured.lengths else None
    uneven = bool(measured.padded) if lengths is None else len(set(lengths)) > 1
    batch = Batch(measured.rows or 0, measured.tokens or 0, uneven, lengths=lengths)
    return batch if measured.labelled is None else batch._replace(labelled=measured.labelled / max(batch.total, 1))


def _known(attempt: Attempt, config: Mapping[str, Any], installation: Installation) -> Held:
    """What was expected, where the profile for it is in the cache."""
    store = ProfileStore(installation.profiles)

    def find(step: TrainingConfig, batch: Batch) -> Profile | None:
        return store.find(model_facts(step.model_name, installation), step, batch)

    ranks: list[int | None] = [peer.rank for peer in attempt.measured.peers] if attempt.measured else []
    try:
        checked = TrainingConfig.model_validate(dict(config))
        found = [expected_by_device(attempt, checked, find, rank) or [] for rank in ranks or [None]]
    except (ValidationError, ModelError):
        return {}
    return by_device([held for of_rank in found for held in of_rank])


def _components(breakdown: Breakdown, accumulates: bool, gathered: int) -> dict[str, int]:
    """As they are measured: gradients of this pass are among what comes and goes, as are weights that are `gathered` for a
    moment; gradients of passes before it stand apart."""
    parts = {name: getattr(breakdown, name) for name in COMPONENTS[:4]}
    parts["weights"] -= gathered
    parts["moving"] = breakdown.activations + breakdown.logits + gathered
    if not accumulates:
        parts["moving"], parts["gradients"] = parts["moving"] + parts["gradients"], 0
    return parts


def _parts(held: HeldTensors | None) -> dict[str, int] | None:
    return None if held is None else {name: int(getattr(held, name)) for name in COMPONENTS}


def _whole(num_bytes: float | None) -> int | None:
    return None if num_bytes is None else int(num_bytes)
