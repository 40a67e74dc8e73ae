"""What was planned for a step beside what it really held, per device and component."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.installation import Installation
from lora_backend.planning.cost.memory import Breakdown, Memory
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import Batch
from lora_backend.planning.planner import workload_of
from lora_backend.planning.profile_store import ProfileStore
from lora_backend.preflight.plan_question import model_facts
from lora_backend.runs.record.attempts import Attempt, HeldTensors

COMPONENTS = ("weights", "adapter", "gradients", "optimizer", "moving")
ProfileOfBatch = Callable[[TrainingConfig, Batch], Profile | None]
"""The profile of the config's model for one real batch; None where it is not known."""


@dataclass(frozen=True)
class Comparison:
    """One device. Bytes; None where one of the two is not known."""

    device: int | str
    planned_at_most: int
    """For the longest rows that the config lets through, tensors and overhead."""
    expected: Mapping[str, int] | None
    """By component, tensors alone, for the rows that the measured step really had."""
    measured: Mapping[str, int] | None
    process_bytes: int | None
    """What the driver or the system says of the whole process."""

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
    return [
        Comparison(
            device.index,
            int(device.total_bytes),
            _parts(expected.get(device.index)),
            _parts(seen.get(device.index)),
            None if device.index not in seen else _whole(seen[device.index].process),
        )
        for device in plan.devices
        if device.index is not None
    ]


def by_device(found: Sequence[HeldTensors], beside: Set[str] = frozenset()) -> dict[int | str, HeldTensors]:
    """A measurement's devices, or those of what was expected, that have every component and what is `beside` them."""
    return {
        held.device: held
        for held in found
        if held.model_fields_set >= beside and all(getattr(held, name) is not None for name in COMPONENTS)
    }


def expected_by_device(
    attempt: Attempt, config: TrainingConfig, profile_of: ProfileOfBatch
) -> list[HeldTensors] | None:
    """The plan's devices in the pass that was measured: bytes by component, tensors alone.

    None where nothing was planned or measured, or the profile is not known.
    """
    plan, measured = attempt.plan, attempt.measured
    if measured is None or not measured.model_fields_set >= {"rows", "tokens", "padded", "devices"}:
        return None
    if plan is None or not plan.model_fields_set >= {"assignment", "precision", "strategy", "devices"}:
        return None
    rows, tokens, assignment = measured.rows or 0, measured.tokens or 0, plan.assignment or []
    labelled = rows * tokens if measured.labelled is None else measured.labelled
    batch = Batch(rows, tokens, bool(measured.padded), labelled / max(rows * tokens, 1))
    profile = profile_of(config.model_copy(update={"precision": plan.precision}), batch)
    if profile is None:
        return None
    accumulates = any(device.gradients for device in measured.devices)
    workload = replace(
        workload_of(config, ()),
        size=Size(rows, tokens, config.r),
        accumulates=accumulates,
        updates=False,
        on_gpu=plan.strategy != "cpu",
    )
    memory = Memory(profile, workload)
    if len(assignment) != memory.num_units:
        return None
    found = []
    for index, device in enumerate(plan.devices):
        held = [unit for unit, place in enumerate(assignment) if place == index]
        if device.index is not None:
            found.append(HeldTensors(device=device.index, **_components(memory.device(held), accumulates)))
    return found


def _known(attempt: Attempt, config: Mapping[str, Any], installation: Installation) -> dict[int | str, HeldTensors]:
    """What was expected, where the profile for it is in the cache."""
    store = ProfileStore(installation.profiles)

    def find(step: TrainingConfig, batch: Batch) -> Profile | None:
        return store.find(model_facts(step.model_name, installation), step, batch)

    try:
        found = expected_by_device(attempt, TrainingConfig.model_validate(dict(config)), find)
    except (ValidationError, ModelError):
        return {}
    return by_device(found or ())


def _components(breakdown: Breakdown, accumulates: bool) -> dict[str, int]:
    """As they are measured: gradients of this pass are among what comes and goes, those of passes before it apart."""
    parts = {name: getattr(breakdown, name) for name in COMPONENTS[:4]}
    parts["moving"] = breakdown.activations + breakdown.logits
    if not accumulates:
        parts["moving"], parts["gradients"] = parts["moving"] + parts["gradients"], 0
    return parts


def _parts(held: HeldTensors | None) -> dict[str, int] | None:
    return None if held is None else {name: int(getattr(held, name)) for name in COMPONENTS}


def _whole(num_bytes: float | None) -> int | None:
    return None if num_bytes is None else int(num_bytes)
