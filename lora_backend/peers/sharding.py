"""A model shared out over the processes that train it: each keeps its part of every frozen weight, and gathers a block when it runs.

By torch's FSDP2 (`torch.distributed.fsdp.fully_shard`). Two things are decided here:

- **What trains stays whole in every process.** It is a hundredth of a LoRA's model, so sharding it would save little (its
  fp32 weights, gradients and two moments of AdamW: 16 bytes for each of them), and FSDP2 would have to scatter gradients of
  fp32 beside weights of bf16. Whole, it is what it is under ddp: gradients are summed by the same function, and clipping,
  optimizers, checkpoints, rank proof and the saved adapter need to know nothing of shards. A module that is trained whole
  (`modules_to_save`, an embedding) is then whole in every process too, with its optimizer's states.
- **Each decoder block is a unit, and all that is outside of them is one more.** A unit is gathered before it runs, let go after
  it, and gathered again for its backward pass, on a GPU with the next one on its way meanwhile. Embedding, norm and head are
  one because a head that is tied to the embedding is the same weight, and a loss in pieces asks for it again and again while
  the model is called. Frozen weights have no gradients, so nothing is scattered back.

So a pass is a collective act: every process runs as many forward and backward passes as the others. Between them nothing is
gathered, whatever a process looks up in the model by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from transformers import LogitsProcessor, LogitsProcessorList

from lora_backend.modeling.blocks import find_blocks
from lora_backend.modeling.devices import gib
from lora_backend.modeling.step_memory import own_part
from lora_backend.peers.peers import Alone, Peers

logger = logging.getLogger(__name__)


def share_out(model: PeftModel, peers: Peers, *, offload: bool) -> None:
    """Keep of every frozen weight this process's part alone, on its device; what trains comes there whole.

    `model` is the same at every process, in host memory. A unit at a time is on the device whole. No process waits for
    another here. `offload`: the parts stay in host memory, and a block is copied to the device when it runs.
    """
    device = _device()
    mesh = init_device_mesh(device.type, (peers.size,))
    policy = CPUOffloadPolicy(pin_memory=device.type == "cuda") if offload else OffloadPolicy()
    whole = {*_trained(model), *_saved_frozen(model)}
    found = find_blocks(model.get_base_model())
    for unit in (*(found[1] if found else ()), model):
        # torch's own default keeps the outermost unit gathered after a pass that has no backward pass.
        fully_shard(unit, mesh=mesh, reshard_after_forward=True, offload_policy=policy, ignored_params=whole)
    for parameter in whole:
        parameter.data = parameter.data.to(device)
    model.shared_with = peers
    register_fsdp_forward_method(model, "generate")  # PEFT's does not go through the model's own forward pass
    model.generate = partial(_generate, model.generate, peers)
    held = sum(own_part(one).nbytes for one in chain(model.parameters(), model.buffers()))
    logger.info("fsdp: %s of weights here, of %s processes", gib(held), peers.size)


def sharers_of(model: nn.Module) -> Peers:
    """Who must run every pass of `model` together with this process: nobody, where its weights are whole here."""
    found = getattr(model, "shared_with", None)
    return found if isinstance(found, Peers) else Alone()


def _generate(generate: Callable[..., torch.Tensor], peers: Peers, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Every process the same tokens, and so as many passes, though GPUs of other kinds may round otherwise."""
    return generate(*args, **kwargs, logits_processor=LogitsProcessorList([_OfFirst(peers)]))


class _OfFirst(LogitsProcessor):  # type: ignore[misc]  # transformers' classes are untyped
    """The first process's scores at all of them."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return self._peers.summed(scores.clone() if self._peers.is_first else torch.zeros_like(scores))


def _device() -> torch.device:
    """The one of this process, which has chosen its GPU where there is one."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _saved_frozen(model: PeftModel) -> list[nn.Parameter]:
    """Frozen weights that PEFT saves with the adapter: an embedding's beside the LoRA on it."""
    saved = {tensor.data_ptr() for tensor in get_peft_model_state_dict(model).values()}
    return [one for one in model.parameters() if not one.requires_grad and one.data_ptr() in saved]
