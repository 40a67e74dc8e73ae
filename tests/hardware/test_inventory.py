"""What this machine has. NVML is the outermost edge and may not be here, so its answers are set."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from lora_backend.hardware.inventory import read_gpus, read_host


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "does not answer"),
    ],
)
def test_what_stands_in_the_way_of_the_gpus_is_a_sentence(
    error: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(error)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    found = read_gpus()
    assert found.gpus == ()
    assert found.reason is not None
    assert said in found.reason.text("en")


def nvml(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: count,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda index: SimpleNamespace(total=24 << 30, used=index << 30),
        "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
        "nvmlDeviceGetName": lambda index: b"RTX 4090",
        "nvmlDeviceGetCudaComputeCapability": lambda index: (8, 9),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


def test_gpus_are_read_as_plain_data(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch, 2)
    found = read_gpus()
    assert found.reason is None
    assert [(gpu.index, gpu.name, gpu.used_bytes >> 30, gpu.compute_capability) for gpu in found.gpus] == [
        (0, "RTX 4090", 0, (8, 9)),
        (1, "RTX 4090", 1, (8, 9)),
    ]


def test_a_driver_without_gpus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch, 0)
    reason = read_gpus().reason
    assert reason is not None
    assert "shows no GPU" in reason.text("en")


def test_the_disk_of_a_folder_that_is_not_made_yet_is_read(tmp_path: Path) -> None:
    host = read_host(tmp_path / "not" / "yet")
    assert host.num_cores >= 1
    assert 0 < host.disk_free_bytes <= host.disk_total_bytes
    assert 0 < host.memory_available_bytes <= host.memory_total_bytes
