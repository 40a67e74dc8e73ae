"""What the demo promises of its time: nothing before it was measured on this very CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_backend.demo import demo_pace
from lora_backend.runs.record.locked_files import read_json
from tests.waiting import until


def cpu(path: Path, name: str, flags: str) -> Path:
    path.write_text(f"processor\t: 0\nmodel name\t: {name}\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n")
    return path


def test_the_demos_time_is_told_once_it_is_measured_and_of_another_cpu_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_pace, "_asked", set())
    monkeypatch.setattr(demo_pace, "training_cores", lambda: 2)
    monkeypatch.setattr(demo_pace, "flops_per_core", lambda: demo_pace.MEASURED_FLOPS / 2)
    monkeypatch.setattr(demo_pace, "CPUINFO", cpu(tmp_path / "cpu", "A", "avx512_bf16"))
    cache = tmp_path / "cache"
    assert demo_pace.demo_seconds(cache) is None
    until(lambda: read_json(cache / demo_pace.FILE) is not None)
    low, high = demo_pace.demo_seconds(cache) or (0.0, 0.0)
    assert low == pytest.approx(demo_pace.MEASURED_S)
    assert high > low
    cpu(tmp_path / "cpu", "B", "avx2")
    assert demo_pace.demo_seconds(cache) is None
    until(lambda: (read_json(cache / demo_pace.FILE) or {}).get("cpu") == "B × 2")
    slower, _ = demo_pace.demo_seconds(cache) or (0.0, 0.0)
    assert slower > 1.5 * low, "a CPU without bf16"


def test_where_nothing_can_be_measured_nothing_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_pace, "flops_per_core", lambda: None)
    demo_pace.measure(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
