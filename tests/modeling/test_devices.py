"""What the log says of memory: a line per GPU, or one for the host, with a figure for each word."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest
import torch

from lora_backend.modeling.devices import memory_table

GIB = 2**30


def figures(line: str) -> dict[str, float]:
    """Word → GiB, of each part of a line."""
    return {word: float(size) for word, size in re.findall(r"(\w+) (\d+\.\d\d) GiB", line)}


def test_the_hosts_line_has_the_process_its_peak_and_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    before_bytes = psutil.Process().memory_info().rss
    held = b"\1" * (GIB // 4)
    del held
    (line,) = memory_table()
    said = figures(line)
    assert line.startswith("host: ")
    assert said.keys() == {"process", "peak", "available", "of"}
    assert said["peak"] >= before_bytes / GIB + 0.2, "what was given back counts"
    assert said["peak"] >= said["process"] > 0
    assert said["of"] == pytest.approx(psutil.virtual_memory().total / GIB, abs=0.01)
    assert 0 < said["available"] <= said["of"]


def test_a_kernel_that_does_not_tell_the_peak_costs_no_run_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(Path, "read_text", lambda _: "Name:\tpython\nVmRSS:\t1 kB\n")
    (line,) = memory_table()
    assert figures(line)["peak"] >= 0.9 * figures(line)["process"] > 0, "the kernel counts both a little late"


def test_each_gpu_has_a_line_with_allocated_reserved_peak_and_free(monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = {
        "device_count": lambda: 2,
        "is_available": lambda: True,
        "mem_get_info": lambda index: ((20 - index) * GIB, 24 * GIB),
        "memory_allocated": lambda index: (1 + index) * GIB,
        "memory_reserved": lambda index: (3 + index) * GIB,
        "max_memory_allocated": lambda index: (2 + index) * GIB,
    }
    for name, answer in by_name.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    first, second = memory_table()
    assert first.startswith("cuda:0 ")
    assert second.startswith("cuda:1 ")
    assert figures(first) == {"allocated": 1, "reserved": 3, "peak": 2, "free": 20, "of": 24}
    assert figures(second) == {"allocated": 2, "reserved": 4, "peak": 3, "free": 19, "of": 24}
