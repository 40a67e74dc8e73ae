"""What was planned for a step beside what it really held, per device and component."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.planning.cost.memory import Breakdown, Memory
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import Batch
from lora_backend.planning.planner import workload_of
from lora_backend.planning.profile_store import ProfileStore
from lora_backend.preflight.plan_question import model_facts
from lora_backend.settings import Settings

COMPONENTS = ("weights", "adapter", "gradients", "optimizer", "moving")
ProfileOfBatch = Callable[[Mapping[str, Any], TrainingConfig, Batch], Profile | None]
"""The profile of a model (its `config.json`) for a config and one real batch; None where it is not known."""


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


def compare(attempt: Mapping[str, Any], config: Mapping[str, Any], settings: Settings) -> list[Comparison]:
    """Every device of an attempt's plan; empty where the attempt has no plan, or but a part of one.

    What was expected stands in the attempt when its run has ended; before that it is there where its profile is known.
    """
    plan = attempt.get("plan")
    if not plan or not all(device.keys() >= {"index", "total_bytes"} for device in plan.get("devices", [{}])):
        return []
    seen = by_device(attempt.get("measured") or {}, {"process"})
    expected = by_device(attempt.get("expected") or {}) or _known(attempt, config, settings)
    found = []
    for device in plan["devices"]:
        index = device["index"]
        found.append(
            Comparison(
                index,
                device["total_bytes"],
                _parts(expected.get(index)),
                _parts(seen.get(index)),
                seen[index]["process"] if index in seen else None,
            )
        )
    return found


def by_device(figures: Mapping[str, Any], beside: Set[str] = frozenset()) -> dict[int | str, Mapping[str, Any]]:
    """A measurement's devices, or those of what was expected, that have every component and what is `beside` them."""
    whole = {"device", *COMPONENTS} | beside
    return {device["device"]: device for device in figures.get("devices", ()) if device.keys() >= whole}


def expected_by_device(
    attempt: Mapping[str, Any], config: TrainingConfig, profile_of: ProfileOfBatch
) -> list[dict[str, Any]] | None:
    """The plan's devices in the pass that was measured: bytes by component, tensors alone.

    None where nothing was planned or measured, or the profile is not known.
    """
    plan, measured = attempt.get("plan") or {}, attempt.get("measured") or {}
    if not measured.keys() >= {"rows", "tokens", "padded", "devices"} or not plan.keys() >= {"assignment", "precision", "strategy", "devices"}:  # fmt: skip
        return None
    rows, tokens = measured["rows"], measured["tokens"]
    batch = Batch(rows, tokens, measured["padded"], measured.get("labelled", rows * tokens) / max(rows * tokens, 1))
    profile = profile_of(
        model_facts(config.model_name), config.model_copy(update={"precision": plan["precision"]}), batch
    )
    if profile is None:
        return None
    accumulates = any(device.get("gradients") for device in measured["devices"])
    workload = replace(
        workload_of(config, ()),
        size=Size(rows, tokens, config.r),
        accumulates=accumulates,
        updates=False,
        on_gpu=plan["strategy"] != "cpu",
    )
    memory, assignment = Memory(profile, workload), plan["assignment"]
    if len(assignment) != memory.num_units:
        return None
    found = []
    for index, device in enumerate(plan["devices"]):
        held = [unit for unit, place in enumerate(assignment) if place == index]
        found.append({"device": device["index"], **_components(memory.device(held), accumulates)})
    return found


def _known(attempt: Mapping[str, Any], config: Mapping[str, Any], settings: Settings) -> dict[int | str, Any]:
    """What was expected, where the profile for it is in the cache."""
    find = ProfileStore(settings.cache / "profiles").find
    try:
        found = expected_by_device(attempt, TrainingConfig.model_validate(dict(config)), find)
    except (ValidationError, ModelError):
        return {}
    return by_device({"devices": found or ()})


def _components(breakdown: Breakdown, accumulates: bool) -> dict[str, int]:
    """As they are measured: gradients of this pass are among what comes and goes, those of passes before it apart."""
    parts = {name: getattr(breakdown, name) for name in COMPONENTS[:4]}
    parts["moving"] = breakdown.activations + breakdown.logits
    if not accumulates:
        parts["moving"], parts["gradients"] = parts["moving"] + parts["gradients"], 0
    return parts


def _parts(device: Mapping[str, Any] | None) -> dict[str, int] | None:
    return None if device is None else {name: device[name] for name in COMPONENTS}
