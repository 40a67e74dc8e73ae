"""Blocks in host memory: an adapter there does not train, nothing says so, and so training refuses such a map."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.preflight.placement import refuse_host_memory

IDS = torch.tensor([[1, 2, 3, 4]])


def adapted(folder: Path) -> PeftModel:
    config = TrainingConfig(model_name=str(folder), r=2, target_modules=["q_proj"])
    return attach_adapter(AutoModelForCausalLM.from_pretrained(folder), config)


def test_an_adapter_that_is_offloaded_gets_no_gradient_and_nothing_says_so(tiny_model: Path) -> None:
    model = adapted(tiny_model)
    here = copy.deepcopy(model)
    here(input_ids=IDS, labels=IDS).loss.backward()
    assert all(p.grad is not None for p in here.parameters() if p.requires_grad)

    # On a machine without a GPU a device map sets no hooks; these are the ones that it would set.
    cpu_offload(model, execution_device="cpu")
    loss = model(input_ids=IDS, labels=IDS).loss
    assert torch.isfinite(loss)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.device.type for p in trained} == {"meta"}
    try:
        loss.backward()
    except RuntimeError:
        return  # as loud as that is fine
    assert all(p.grad is None for p in trained)


@pytest.mark.parametrize(
    ("places", "refused"),
    [({"0", "cpu"}, True), ({"0", "disk"}, True), ({"disk"}, True), ({"cpu"}, False), ({"0", "1"}, False)],
)
def test_training_refuses_a_map_with_blocks_in_host_memory(places: set[str], refused: bool) -> None:
    if not refused:
        refuse_host_memory(places)
        return
    with pytest.raises(ModelError, match="an adapter does not train"):
        refuse_host_memory(places)
