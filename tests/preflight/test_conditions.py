"""What a time depends on here: cores are measured only where they train."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_backend import outside
from lora_backend.hardware import cpu_speed
from lora_backend.installation import this_installation
from lora_backend.planning.targets import GIB, Target, of_words
from lora_backend.preflight.conditions import conditions_for
from lora_backend.preflight.resolve import ResolvedConfig
from tests.resolving import from_here


def config(home: Path) -> ResolvedConfig:
    return from_here({"model_name": "Qwen/Qwen3-8B"}, this_installation({"FLIGHTDECK_HOME": str(home)}))


def test_cores_are_measured_where_they_train(tmp_path: Path) -> None:
    found = conditions_for(config(tmp_path), (Target("cpu", "CPU", 64 * GIB),), num_rows=7)
    assert found.cpu.num_cores == cpu_speed.training_cores()
    assert found.cpu.flops_per_core is not None
    assert (found.rows, found.lengths) == (7, None)


def test_nothing_is_measured_for_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "call", lambda *_, **__: pytest.fail("a process was started"))
    found = conditions_for(config(tmp_path), of_words("RTX-4090"))
    assert found.cpu.flops_per_core is None
    assert found.rows is None
