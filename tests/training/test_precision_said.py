"""What `precision: auto` means on a machine without a GPU, and what the log says of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_backend.config.schema import TrainingConfig
from lora_backend.training.start_facts import planned_precision
from tests.training.helpers import made

Make = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("in_hardware", "asked", "precision", "said"),
    [
        (True, "auto", "bf16", "bf16: this processor multiplies it in hardware; `precision: fp32` computes in fp32"),
        (False, "auto", "fp32", "fp32: this processor has no instructions of its own for bf16"),
        (True, "fp32", "fp32", None),
    ],
)
def test_auto_is_bf16_where_the_processor_multiplies_it(
    in_hardware: bool,
    asked: str,
    precision: str,
    said: str | None,
    config: Make,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: in_hardware)
    values = config(precision=asked)
    assert planned_precision(TrainingConfig(**values), made(workspace, values)) == precision
    assert caplog.messages == ([f"precision {said}"] if said else [])
