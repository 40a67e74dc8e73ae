"""What is put together before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.load import load_model
from lora_backend.training.assembly import Data, assemble, fresh_state

Make = Callable[..., dict[str, Any]]
IDS = torch.ones(4, dtype=torch.long)


def test_a_model_in_4_bits_on_another_gpu_than_the_first_is_taken(
    config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate refuses to prepare one that is not on the device that it trains on, so it is not asked to."""

    def refuses(*_: Any, **__: Any) -> None:
        raise AssertionError("accelerate was asked to prepare the model")

    monkeypatch.setattr(Accelerator, "prepare_model", refuses)
    asked = TrainingConfig(**config(max_steps=1))
    model = attach_adapter(load_model(asked), asked)
    rows = [{"input_ids": IDS, "attention_mask": IDS, "labels": IDS}] * 4
    loader: DataLoader[Any] = DataLoader(rows, batch_size=2)  # type: ignore[arg-type]
    assert fresh_state(model, assemble(model, asked, "fp32", Data(loader=loader))).optimizer.param_groups
