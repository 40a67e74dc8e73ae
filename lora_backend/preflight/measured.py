"""What was planned for a step beside what it really held, per device and component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.planning.memory import Breakdown, Memory
from lora_backend.planning.planner import workload_of
from lora_backend.planning.scaling import Size
from lora_backend.planning.store import ProfileStore
from lora_backend.preflight.planning import model_facts
from lora_backend.settings import Settings

COMPONENTS = ("weights", "adapter", "gradients", "optimizer", "moving")


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
    """Every device of an attempt's plan; empty where the attempt has no plan, or but a part of one."""
    plan = attempt.get("plan")
    if not plan or not all(device.keys() >= {"index", "total_bytes"} for device in plan.get("devices", [{}])):
        return []
    measured = attempt.get("measured") or {}
    if not measured.keys() >= {"step", "rows", "tokens", "padded", "devices"}:
        measured = {}
    whole = {"device", "process", *COMPONENTS}
    by_device = {device["device"]: device for device in measured.get("devices", ()) if device.keys() >= whole}
    expected = _expected(plan, measured, config, settings)
    found = []
    for index, device in enumerate(plan["devices"]):
        seen = by_device.get(device["index"])
        found.append(
            Comparison(
                device["index"],
                device["total_bytes"],
                None if expected is None else _components(expected[index]),
                None if seen is None else {name: seen[name] for name in COMPONENTS},
                None if seen is None else seen["process"],
            )
        )
    return found


def _expected(
    plan: Mapping[str, Any], measured: Mapping[str, Any], config: Mapping[str, Any], settings: Settings
) -> list[Breakdown] | None:
    """The plan's devices at the size that was measured, where the profile for it is known."""
    if not measured or not plan.keys() >= {"assignment", "precision", "strategy"}:
        return None
    size = Size(measured["rows"], measured["tokens"], 0)
    try:
        typed = TrainingConfig.model_validate(dict(config))
        facts = model_facts(typed.model_name)
    except (ValidationError, ModelError):
        return None
    step = typed.model_copy(
        update={"precision": plan["precision"], "max_length": size.tokens, "batch_size": size.rows if measured["padded"] else 1}
    )  # fmt: skip
    profile = ProfileStore(settings.cache / "profiles").find(facts, step)
    if profile is None:
        return None
    workload = replace(workload_of(typed, ()), size=size._replace(rank=typed.r), on_gpu=plan["strategy"] != "cpu")
    memory = Memory(profile, workload)
    assignment = plan["assignment"]
    if len(assignment) != memory.num_units:
        return None
    logits_on = plan.get("logits_on", assignment[0])
    return [
        memory.device([unit for unit, place in enumerate(assignment) if place == index], gets_logits=index == logits_on)
        for index in range(len(plan["devices"]))
    ]


def _components(breakdown: Breakdown) -> dict[str, int]:
    parts = {name: getattr(breakdown, name) for name in COMPONENTS[:4]}
    # What comes and goes is measured as one; gradients of this pass are in it.
    parts["moving"] = breakdown.activations + breakdown.logits + parts["gradients"]
    parts["gradients"] = 0
    return parts
