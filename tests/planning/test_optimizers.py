"""What an optimizer holds, against torch's and bitsandbytes' own states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit
from bitsandbytes.optim.lion import Lion8bit, PagedLion8bit
from bitsandbytes.optim.optimizer import GlobalOptimManager
from bitsandbytes.optim.rmsprop import RMSprop8bit
from transformers import Adafactor

from lora_backend.planning.optimizers import EIGHT_BIT, SMALL_TENSOR, STATES, is_known, state_bytes, transient_bytes

MATRIX = (256, 256)
TABLES = ("qmap1", "qmap2")
"""Tables of a KiB that all of an optimizer's tensors share."""


def states_of(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> int:
    """Bytes of the states of one step, without counters of a single number and tables that are shared."""
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = [value for name, value in optimizer.state[parameter].items() if name not in TABLES]
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
    assert is_known(name)
    assert state_bytes(name, parameter.numel(), dtype.itemsize) == states_of(make([parameter]), parameter)


def test_adafactor_keeps_next_to_nothing() -> None:
    parameter = torch.nn.Parameter(torch.zeros(MATRIX))
    held = states_of(Adafactor([parameter]), parameter)
    assert state_bytes("adafactor", parameter.numel(), 4) == 0
    assert held < 0.02 * parameter.numel() * 4


@pytest.mark.parametrize("parameters", [SMALL_TENSOR - 1, SMALL_TENSOR, 65_536, 65_537])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw_8bit", AdamW8bit),
        ("paged_adamw_8bit", PagedAdamW8bit),
        ("lion_8bit", Lion8bit),
        ("paged_lion_8bit", PagedLion8bit),
        ("rmsprop_bnb_8bit", RMSprop8bit),
    ],
)
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
def test_eight_bit_states_are_as_large_as_bitsandbytes_own(name: str, make: Any, parameters: int) -> None:
    """A byte each and a scale for 256; small tensors and tables of embeddings in 32 bits."""
    manager = GlobalOptimManager.get_instance()
    manager.initialize()  # it remembers what earlier optimizers of this process were told
    parameter = torch.nn.Parameter(torch.zeros(parameters))
    assert state_bytes(name, parameters, 4) == states_of(make([parameter]), parameter)
    table = torch.nn.Embedding(parameters, 1)
    optimizer = make([table.weight])
    manager.register_module_override(table, "weight", {"optim_bits": 32})  # as Trainer does
    assert state_bytes(name, parameters, 4, is_embedding=True) == states_of(optimizer, table.weight)
    manager.initialize()


def test_a_step_copies_all_tensors_on_a_gpu_and_one_elsewhere() -> None:
    assert transient_bytes("adamw_torch", 1000, 4, 100, on_gpu=True) == 4000
    assert transient_bytes("adamw_torch", 1000, 4, 100, on_gpu=False) == 400
    assert transient_bytes("adamw_torch_fused", 1000, 4, 100, on_gpu=True) == 0
    assert transient_bytes("adamw_8bit", 1000, 4, 100, on_gpu=True) == 0


def test_an_optimizer_nobody_told_us_of_counts_as_adamw_and_says_so() -> None:
    assert state_bytes("made_up", 1000, 4) == state_bytes("adamw_torch", 1000, 4)
    assert not is_known("made_up")


def test_every_name_is_one_that_transformers_takes() -> None:
    from transformers.training_args import OptimizerNames

    known = {str(name.value) for name in OptimizerNames} | {"adamw_hf", "adamw_apex_fused"}  # of older versions
    assert {*STATES, *EIGHT_BIT} <= known
