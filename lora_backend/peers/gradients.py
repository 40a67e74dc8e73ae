"""The gradients of one step added up over the processes that train together: one sum in an order that never changes.

torch's DistributedDataParallel does the same beside the backward pass, in buckets that it arranges anew after the first
step, so that a resumed run would round differently; and it wants every parameter to have a gradient in every pass. LoRA's
gradients are few: added up once a step they cost little, and a resume is bit-identical.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from lora_backend.peers.peers import Peers

BUCKET_BYTES = 64 * 2**20
"""Gradients that are sent together; one that is larger goes by itself, without a copy."""


def sum_gradients(parameters: Sequence[nn.Parameter], peers: Peers, bucket_bytes: int = BUCKET_BYTES) -> None:
    """Let the gradients of `parameters` be those of all processes together, the same bits at each of them.

    `parameters`: in the model's order, the same everywhere. A process without a gradient adds nothing to it; a parameter
    that has none anywhere is left without one, so the optimizer passes over it as it does in one process.
    """
    if peers.size == 1:
        return
    present = _present(parameters, peers)
    for parameter, is_present in zip(parameters, present, strict=True):
        if is_present and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in buckets_of([one.grad for one in parameters if one.grad is not None], bucket_bytes):
        _sum_bucket(bucket, peers)


def share_first_weights(parameters: Sequence[nn.Parameter], peers: Peers) -> None:
    """Let all processes begin with the first one's. They have drawn them by one seed, but GPUs of different kinds draw
    other numbers by it."""
    if peers.size == 1:
        return
    with torch.no_grad():
        for parameter in parameters if not peers.is_first else ():
            parameter.zero_()
        for bucket in buckets_of([parameter.detach() for parameter in parameters], BUCKET_BYTES):
            _sum_bucket(bucket, peers)


def buckets_of(tensors: Sequence[torch.Tensor], bucket_bytes: int) -> Iterator[list[torch.Tensor]]:
    """The tensors in their order, as many together as fit; each bucket of one dtype and device."""
    bucket: list[torch.Tensor] = []
    held_bytes = 0
    for tensor in tensors:
        is_alike = bool(bucket) and (tensor.dtype, tensor.device) == (bucket[0].dtype, bucket[0].device)
        if bucket and not (is_alike and held_bytes + tensor.nbytes <= bucket_bytes):
            yield bucket
            bucket, held_bytes = [], 0
        bucket.append(tensor)
        held_bytes += tensor.nbytes
    if bucket:
        yield bucket


def _present(parameters: Sequence[nn.Parameter], peers: Peers) -> list[bool]:
    """Of each parameter whether any process has a gradient."""
    own = [parameter.grad is not None for parameter in parameters]
    if not parameters:
        return own
    found = peers.summed(torch.tensor(own, dtype=torch.int32, device=parameters[0].device))
    return own if all(own) else [count > 0 for count in found.tolist()]  # to read it is to wait for the GPU


def _sum_bucket(bucket: Sequence[torch.Tensor], peers: Peers) -> None:
    if len(bucket) == 1 and bucket[0].is_contiguous():
        peers.summed(bucket[0])
        return
    flat = peers.summed(torch.cat([tensor.reshape(-1) for tensor in bucket]))
    for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
        tensor.copy_(part.view(tensor.shape))
