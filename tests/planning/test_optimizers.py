"""What an optimizer holds, against torch's and bitsandbytes' own states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bitsandbytes.optim.adamw import AdamW8bit
from transformers import Adafactor

from lora_backend.planning.optimizers import EIGHT_BIT, SMALL_TENSOR, STATES, optimizer_bytes

MATRIX = (256, 256)


def states_of(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> int:
    """Bytes of the states of one step, without counters of a single number."""
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = optimizer.state[parameter].values()
    return sum(tensor.numel() * tensor.element_size() for tensor in held if isinstance(tensor, torch.Tensor) and tensor.numel() > 1)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw_torch", torch.optim.AdamW),
        ("adamw_torch_fused", lambda params: torch.optim.AdamW(params, fused=True)),
        ("sgd", torch.optim.SGD),
        ("adagrad", torch.optim.Adagrad),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_states_are_as_large_as_torchs_own(name: str, make: Any, dtype: torch.dtype) -> None:
    parameter = torch.nn.Parameter(torch.zeros(MATRIX, dtype=dtype))
    itemsize = dtype.itemsize
    found = optimizer_bytes(name, parameter.numel(), itemsize, parameter.numel(), on_gpu=False)
    assert found.is_known
    assert found.state_bytes == states_of(make([parameter]), parameter)


def test_adafactor_keeps_next_to_nothing() -> None:
    parameter = torch.nn.Parameter(torch.zeros(MATRIX))
    held = states_of(Adafactor([parameter]), parameter)
    assert optimizer_bytes("adafactor", parameter.numel(), 4, parameter.numel(), on_gpu=False).state_bytes == 0
    assert held < 0.02 * parameter.numel() * 4


@pytest.mark.parametrize(("name", "moments"), [("adamw_8bit", 2), ("lion_8bit", 1)])
def test_eight_bit_states_are_a_byte_each_and_a_scale_for_256(name: str, moments: int) -> None:
    blocks = 65_536 // 256
    assert optimizer_bytes(name, 65_536, 4, 0, on_gpu=True).state_bytes == moments * (65_536 + 4 * blocks)
    optimizer: Any = AdamW8bit([torch.nn.Parameter(torch.zeros(MATRIX))])
    assert optimizer.args.min_8bit_size == SMALL_TENSOR


def test_a_step_copies_all_tensors_on_a_gpu_and_one_elsewhere() -> None:
    whole = optimizer_bytes("adamw_torch", 1000, 4, 100, on_gpu=True)
    single = optimizer_bytes("adamw_torch", 1000, 4, 100, on_gpu=False)
    fused = optimizer_bytes("adamw_torch_fused", 1000, 4, 100, on_gpu=True)
    assert (whole.transient_bytes, single.transient_bytes, fused.transient_bytes) == (4000, 400, 0)


def test_an_optimizer_nobody_told_us_of_counts_as_adamw_and_says_so() -> None:
    found = optimizer_bytes("made_up", 1000, 4, 100, on_gpu=True)
    assert found.state_bytes == optimizer_bytes("adamw_torch", 1000, 4, 100, on_gpu=True).state_bytes
    assert not found.is_known


def test_every_name_is_one_that_transformers_takes() -> None:
    from transformers.training_args import OptimizerNames

    known = {str(name.value) for name in OptimizerNames} | {"adamw_hf", "adamw_apex_fused"}  # of older versions
    assert {*STATES, *EIGHT_BIT} <= known
