"""A driver that fails half-way, a card that is lost, and a disk whose folder is not made yet."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from lora_backend.hardware.inventory import read_gpus, read_host


def test_there_are_gpus_or_a_reason_why_not() -> None:
    inventory = read_gpus()
    assert inventory.gpus or inventory.reason
    if inventory.reason and not inventory.gpus:
        assert "CPU" in inventory.reason.text("en")
        assert inventory.reason.text("zh") != inventory.reason.text("en")


def test_the_host_is_described(tmp_path: Path) -> None:
    host = read_host(tmp_path)
    assert host.num_cores >= 1
    assert 0 < host.memory_available_bytes <= host.memory_total_bytes
    assert 0 < host.disk_free_bytes <= host.disk_total_bytes
    status = os.statvfs(tmp_path)
    assert host.disk_total_bytes == status.f_blocks * status.f_frsize


@pytest.mark.parametrize("below", ["none", "none/at/all"])
def test_the_disk_of_a_folder_that_is_not_made_yet_is_that_of_its_parent(below: str, tmp_path: Path) -> None:
    assert read_host(tmp_path / below).disk_total_bytes == read_host(tmp_path).disk_total_bytes


def test_a_relative_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_host(Path("none/yet")).disk_total_bytes == read_host(tmp_path).disk_total_bytes


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A driver's answers put in by hand, for a test machine has no GPU. Returns what is to be changed in them."""
    answers: dict[str, Any] = {"names": ["NVIDIA A", b"NVIDIA B"], "fails": None, "lost": None, "closed": 0}

    def answer(name: str, value: Any) -> None:
        def call(*arguments: Any) -> Any:
            if answers["fails"] == name or (name == "nvmlDeviceGetHandleByIndex" and answers["lost"] in arguments):
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            return value(*arguments)

        monkeypatch.setattr(pynvml, name, call)

    def close() -> None:
        answers["closed"] += 1

    answer("nvmlInit", lambda: None)
    answer("nvmlShutdown", close)
    answer("nvmlDeviceGetCount", lambda: len(answers["names"]))
    answer("nvmlDeviceGetHandleByIndex", lambda index: index)
    answer("nvmlDeviceGetMemoryInfo", lambda index: SimpleNamespace(total=(index + 1) << 34, used=1 << 30))
    answer("nvmlDeviceGetUUID", lambda index: f"GPU-{index}".encode() if index else f"GPU-{index}")
    answer("nvmlDeviceGetName", lambda index: answers["names"][index])
    answer("nvmlDeviceGetCudaComputeCapability", lambda index: [8, index])
    return answers


def test_each_gpu_is_plain_data_whether_the_driver_speaks_text_or_bytes(driver: Any) -> None:
    first, second = read_gpus().gpus
    assert (first.index, first.uuid, first.name, first.total_bytes) == (0, "GPU-0", "NVIDIA A", 1 << 34)
    assert (second.uuid, second.name, second.used_bytes, second.compute_capability) == ("GPU-1", "NVIDIA B", 1 << 30, (8, 1))  # fmt: skip
    assert driver["closed"] == 1


@pytest.mark.parametrize(
    "call",
    [
        "nvmlInit",
        "nvmlDeviceGetCount",
        "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetUUID",
        "nvmlShutdown",
    ],
)
def test_a_driver_that_does_not_answer_is_a_sentence(call: str, driver: Any) -> None:
    driver["fails"] = call
    inventory = read_gpus()
    assert inventory.gpus or inventory.reason
    if call != "nvmlShutdown":
        assert inventory.reason is not None
        assert "does not answer" in inventory.reason.text("en")


def test_a_card_that_fell_off_the_bus_does_not_hide_the_others(driver: Any) -> None:
    driver["lost"] = 0
    assert [gpu.index for gpu in read_gpus().gpus] == [1]
