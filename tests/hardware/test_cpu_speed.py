"""The cores' speed is measured, and believed for a while."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from lora_backend import outside
from lora_backend.hardware import cpu_speed


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_speed, "_kept", None)


def test_a_core_is_measured_once_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cpu_speed.flops_per_core()
    assert first is not None
    assert 1e8 < first < 1e13
    monkeypatch.setattr(outside, "call", lambda *_, **__: pytest.fail("measured again"))
    assert cpu_speed.flops_per_core() == first


def test_what_cannot_be_measured_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(*_: object, **__: object) -> None:
        raise outside.OutsideError("It took more than {seconds} s and was cancelled.", seconds=20)

    monkeypatch.setattr(outside, "call", gives_up)
    assert cpu_speed.flops_per_core() is None


@pytest.mark.parametrize(
    ("text", "most"), [("max 100000\n", 64), ("200000 100000\n", 2), ("50000 100000\n", 1), ("?", 64)]
)
def test_a_container_has_the_cores_of_its_quota(
    text: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(cpu_speed, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 64)
    assert cpu_speed.training_cores() == most


def test_two_threads_of_a_core_count_as_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu_speed, "QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 16 if logical else 8)
    assert cpu_speed.training_cores() == 4
