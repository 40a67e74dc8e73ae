"""Where accelerate's hooks take the outputs, and where our trainer puts a batch: with devices that need no GPU."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, dispatch_model
from accelerate.state import AcceleratorState
from transformers import AutoConfig, AutoModelForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.device_map import inputs_device
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.training.trainer import LoraArguments, training_arguments
from tests.planning.profiles import LLAMA

IDS = torch.ones((1, 4), dtype=torch.long)


@pytest.fixture
def model() -> Any:
    """On the meta device, with the hooks of a model that is spread over several devices."""
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**LLAMA)).to("meta")
    parts = {"model.embed_tokens": "meta", "model.layers": "meta", "model.norm": "meta", "model.rotary_emb": "meta"}
    return dispatch_model(made, parts | {"lm_head": "meta"}, force_hooks=True)


def test_outputs_come_back_to_the_device_of_the_inputs(model: Any) -> None:
    """From `meta` nothing can be copied: with the inputs on the CPU all is computed, then the outputs' copy fails."""
    computed = []
    model.lm_head.register_forward_hook(lambda *at: computed.append(at[2].shape))
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor") as raised:
        model(IDS)
    assert computed == [(1, 4, LLAMA["vocab_size"])]
    assert "post_forward" in [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert model(IDS.to("meta")).logits.device.type == "meta"


@pytest.fixture(autouse=True)
def _own_state() -> Iterator[None]:
    """accelerate keeps its device for the whole process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def arguments(tmp_path: Path, device: str | None) -> LoraArguments:
    folder = RunFolder(tmp_path / "run")
    return training_arguments(TrainingConfig(model_name="m"), folder, "fp32", inputs_device=device)


def test_a_batch_goes_beside_the_embedding_where_the_first_device_holds_nothing(model: Any, tmp_path: Path) -> None:
    assert inputs_device(model) == "meta"
    assert arguments(tmp_path, "meta").device == torch.device("meta")
    batches = Accelerator().prepare(torch.utils.data.DataLoader([{"input_ids": IDS[0]}]))
    (batch,) = batches
    assert batch["input_ids"].device.type == "meta"
    assert model(**batch).logits.device.type == "meta"


def test_a_batch_goes_where_transformers_has_it_where_the_first_device_holds_a_part(model: Any, tmp_path: Path) -> None:
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(1))
    assert inputs_device(model) is None
    assert arguments(tmp_path, None).device == torch.device("cpu")
    assert Accelerator().device == torch.device("cpu")


def test_a_model_in_4_bits_on_another_gpu_than_the_first_is_taken(model: Any, tmp_path: Path) -> None:
    """accelerate refuses one that is not on the device that it trains on."""
    model.is_loaded_in_4bit, model.hf_device_map = True, {"": 1}
    arguments(tmp_path, "cuda:0").device  # noqa: B018  # settles it for accelerate too
    with pytest.raises(ValueError, match="on a different device than the one you're training on"):
        Accelerator().prepare_model(model)
    arguments(tmp_path, "cuda:1").device  # noqa: B018
    Accelerator().prepare_model(model)
