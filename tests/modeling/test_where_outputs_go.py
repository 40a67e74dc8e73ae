"""Inputs go to the embedding, logits and loss stay with the head: by accelerate's own hooks, on devices that need no GPU.

The embedding and the blocks are on the CPU, the head on the meta device, from which nothing can be copied back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import attach_align_device_hook_on_blocks
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.load import leave_outputs, load_model
from lora_backend.modeling.loss import ChunkedLoss
from lora_backend.modeling.step import LossPath, inputs_device, micro_batch_loss, micro_batch_step
from tests.planning.profiles import LLAMA

IDS = torch.ones((2, 4), dtype=torch.long)
BATCH = {"input_ids": IDS, "attention_mask": IDS, "labels": IDS}
BELOW_HEAD = ("model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb")


def spread(of_head: str = "meta", of_others: str = "cpu") -> Any:
    """A model with the hooks that accelerate's `dispatch_model` puts on one that is spread over these two devices."""
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**LLAMA))
    made.to(of_others)
    made.lm_head.to(of_head)
    places: dict[str, Any] = {**dict.fromkeys(("", *BELOW_HEAD), of_others), "lm_head": of_head}
    offload = dict.fromkeys((*BELOW_HEAD, "lm_head"), False)
    attach_align_device_hook_on_blocks(made, execution_device=places, offload=offload)
    return made


def trained_head_alone(model: nn.Module) -> Any:
    """What trains is all on the head's device, so that no gradient has to leave it."""
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)
    return model


def test_accelerate_alone_copies_the_logits_back_to_the_inputs() -> None:
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        spread()(IDS)


def test_the_logits_stay_where_the_head_is() -> None:
    model = spread()
    leave_outputs(model)
    assert model(IDS).logits.device.type == "meta"


def test_the_step_makes_its_loss_and_gradients_where_the_head_is() -> None:
    model = trained_head_alone(spread())
    leave_outputs(model)
    loss = micro_batch_step(model, BATCH, precision="fp32", loss_path=LossPath.of(model), num_items=6)
    assert loss.device.type == "meta"
    assert model.lm_head.weight.grad.device.type == "meta"


@pytest.mark.parametrize("is_chunked", [False, True], ids=["ordinary loss", "loss in pieces"])
def test_the_loss_of_an_evaluation_is_made_where_the_head_is(is_chunked: bool) -> None:
    model = spread()
    leave_outputs(model)
    path = LossPath.of(model, ChunkedLoss(model, labelled=1.0) if is_chunked else None)
    with torch.no_grad():
        loss = micro_batch_loss(model, BATCH, precision="fp32", loss_path=path, num_items=6)
    assert loss.device.type == "meta"


def test_inputs_go_to_the_embedding_wherever_they_are() -> None:
    model = spread("meta", "meta")
    leave_outputs(model)
    assert inputs_device(model).type == "meta"
    assert model(input_ids=IDS, labels=IDS).loss.device.type == "meta", "in a loop of one's own too"


@pytest.mark.parametrize(
    ("places", "are_left"),
    [({"model": 0, "lm_head": 1}, True), ({"model": 1, "lm_head": "cpu"}, False), ({"": 0}, False)],
    ids=["over GPUs", "partly in host memory", "on one GPU"],
)
def test_a_model_is_loaded_so_where_it_is_spread_over_gpus(
    places: dict[str, Any], are_left: bool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers loads on GPUs that are not here is made beforehand."""
    made = spread()
    made.hf_device_map = places
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: made)
    loaded = load_model(TrainingConfig(model_name=str(tiny_model), precision="fp32"))
    if are_left:
        assert loaded(IDS).logits.device.type == "meta"
    else:
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            loaded(IDS)
