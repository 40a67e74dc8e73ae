"""What does not go together with weights that are shared out: one sentence, which names the key and what works."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.config.rules.fsdp_keys import why_not_fsdp
from lora_backend.config.schema import TrainingConfig

REFUSED: dict[str, dict[str, Any]] = {
    "quantization: nf4": {"quantization": "nf4"},
    "quantization: int8": {"quantization": "int8"},
    "device_map": {"device_map": {"": 0}},
    "use_balanced_device_map": {"use_balanced_device_map": True},
    "torch_compile": {"torch_compile": True},
    "init_lora_weights: pissa": {"init_lora_weights": "pissa", "questions": "q.jsonl"},
}


@pytest.mark.parametrize("named", REFUSED)
def test_what_cannot_be_shared_out_is_refused_by_its_key(named: str) -> None:
    reason = why_not_fsdp(config(**REFUSED[named]))
    assert reason is not None
    assert f"`{named}" in reason.text("en")
    assert f"`{named}" in reason.text("zh")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"fsdp_offload_params": True},
        {"gradient_checkpointing": True, "precision": "bf16"},
        {"init_lora_weights": "pissa"},
    ],
)
def test_what_can_be_shared_out_is_not_refused(values: dict[str, Any]) -> None:
    assert why_not_fsdp(config(**values)) is None


def config(**values: Any) -> dict[str, Any]:
    return TrainingConfig(model_name="m", **values).model_dump()
