"""What an optimizer holds, against torch's and bitsandbytes' own states."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit
from bitsandbytes.optim.ademamix import AdEMAMix, AdEMAMix8bit
from bitsandbytes.optim.lion import Lion, Lion8bit, PagedLion8bit
from bitsandbytes.optim.optimizer import GlobalOptimManager
from bitsandbytes.optim.rmsprop import RMSprop, RMSprop8bit
from transformers import Adafactor

from lora_backend.config.options import Optimizer
from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.meta import build_meta, trained
from lora_backend.modeling.tracker import TensorTracker
from lora_backend.planning.cost.optimizers import (
    EIGHT_BIT,
    IN_A_STEP,
    SMALL_TENSOR,
    STATES,
    TORCHAO_BITS,
    is_known,
    sides_of,
    state_bytes,
    states_bytes,
    transient_bytes,
)
from lora_backend.planning.cost.trace_settings import TraceSettings
from tests.planning.profiles import LLAMA

MATRIX = (256, 256)
TABLES = ("qmap1", "qmap2")
"""Tables of a KiB that all of an optimizer's tensors share."""


def states_of(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> int:
    """Bytes of the states of one step, without counters of a single number and tables that are shared."""
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = [value for name, value in optimizer.state[parameter].items() if name not in TABLES]
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in held
        if isinstance(tensor, torch.Tensor) and tensor.numel() > 1
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("ademamix", lambda params: AdEMAMix(params, optim_bits=32)),
        ("rmsprop_bnb", lambda params: RMSprop(params, optim_bits=32)),
        ("rmsprop_bnb_32bit", lambda params: RMSprop(params, optim_bits=32)),
        ("lion_32bit", lambda params: Lion(params, optim_bits=32)),
        ("adamw_torch", torch.optim.AdamW),
        ("adamw_torch_fused", lambda params: torch.optim.AdamW(params, fused=True)),
        ("sgd", torch.optim.SGD),
        ("adagrad", torch.optim.Adagrad),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_states_are_as_large_as_torchs_own(name: str, make: Any, dtype: torch.dtype) -> None:
    if dtype != torch.float32 and name.startswith(("ademamix", "rmsprop_bnb", "lion")):
        pytest.skip("bitsandbytes keeps 32 bits whatever it trains, which is fp32 here")
    parameter = torch.nn.Parameter(torch.zeros(MATRIX, dtype=dtype))
    assert is_known(name)
    assert state_bytes(name, parameter.numel(), dtype.itemsize) == states_of(make([parameter]), parameter)


@pytest.mark.parametrize("shape", [MATRIX, (16, 4096), (4, 8, 32), (300,)])
def test_adafactor_keeps_rows_and_columns(shape: tuple[int, ...]) -> None:
    parameter = torch.nn.Parameter(torch.zeros(shape))
    held = states_of(Adafactor([parameter], scale_parameter=False, relative_step=False, lr=1e-3), parameter)
    assert state_bytes("adafactor", parameter.numel(), 4, sides=sides_of(shape)) == held


def test_rows_and_columns_of_an_adapter_grow_with_the_rank() -> None:
    """Of a LoRA, a module trained whole, a table of embeddings and a magnitude."""
    keys: dict[str, Any] = {"r": 8, "modules_to_save": ["lm_head"], "use_dora": True, "target_modules": ["q_proj", "embed_tokens"]}  # fmt: skip
    for rank in (8, 32):
        meta = build_meta(LLAMA, TraceSettings(), TrainingConfig(model_name="m", **keys | {"r": rank}))
        told = trained(build_meta(LLAMA, TraceSettings(), TrainingConfig(model_name="m", **keys)).model, 8)
        wanted = sum(
            state_bytes("adafactor", one.numel(), 4, sides=sides_of(one.shape))
            for one in meta.model.parameters()
            if one.requires_grad
        )
        assert states_bytes("adafactor", told, rank, 4) == wanted


@pytest.mark.parametrize("parameters", [SMALL_TENSOR - 1, SMALL_TENSOR, 65_536, 65_537])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw_8bit", AdamW8bit),
        ("paged_adamw_8bit", PagedAdamW8bit),
        ("lion_8bit", Lion8bit),
        ("paged_lion_8bit", PagedLion8bit),
        ("rmsprop_bnb_8bit", RMSprop8bit),
        ("ademamix_8bit", AdEMAMix8bit),
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


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("parameters", [SMALL_TENSOR - 256, SMALL_TENSOR, SMALL_TENSOR + 1, 65_536])
def test_torchaos_states_are_as_large_as_its_own(bits: int, parameters: int) -> None:
    """Made, and not stepped: its step needs a compiler."""
    optim = pytest.importorskip("torchao.optim")
    parameter = torch.nn.Parameter(torch.zeros(parameters))
    optimizer = getattr(optim, f"AdamW{bits}bit")([parameter], block_size=256)
    made = [optimizer._new_buffer(parameter, signed) for signed in (True, False)]
    held = [getattr(one, name) for one in made if hasattr(one, "codes") for name in ("codes", "scale", "qmap")]
    held += [one for one in made if not hasattr(one, "codes")]
    wanted = sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert state_bytes(f"adamw_torch_{bits}bit", parameters, 4) == wanted


def test_what_a_step_of_torchao_states_is_known_without_it() -> None:
    """As measured with torchao 0.18."""
    assert [state_bytes("adamw_torch_8bit", count, 4) for count in (65_536, 4096, 4095, 5000)] == [
        135_168,
        10_368,
        32_760,
        40_000,
    ]
    assert [state_bytes("adamw_torch_4bit", count, 4) for count in (65_536, 4096, 4095)] == [67_712, 4352, 32_760]


SHAPES = ((16, 4096), (4096, 16), (512, 300), (300,), (512, 300))
"""Of a LoRA and of modules trained whole."""


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw_torch", torch.optim.AdamW),
        ("adamw_torch_fused", lambda params, **keys: torch.optim.AdamW(params, fused=True, **keys)),
        ("sgd", torch.optim.SGD),
        ("adagrad", torch.optim.Adagrad),
        ("rmsprop", torch.optim.RMSprop),
        ("adafactor", lambda params, **keys: Adafactor(params, scale_parameter=False, relative_step=False, **keys)),
        ("adamw_8bit", AdamW8bit),
        ("lion_32bit", Lion),
        ("ademamix", AdEMAMix),
    ],
)
def test_a_step_makes_no_more_copies_than_are_counted(name: str, make: Any, on_gpu: bool, weight_decay: float) -> None:
    """torch's loops over all tensors at once are what it takes on a GPU; they run on the CPU too when asked for."""
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    of_torch = name in ("adamw_torch", "sgd", "adagrad", "rmsprop")
    keys = {"foreach": on_gpu} if of_torch else {}
    optimizer = make(parameters, lr=1e-3, weight_decay=weight_decay, **keys)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()  # the first one makes the states
    states = [value for held in optimizer.state.values() for value in held.values() if isinstance(value, torch.Tensor)]
    with TensorTracker([*parameters, *(p.grad for p in parameters if p.grad is not None), *states]) as tracker:
        optimizer.step()
    sizes = [parameter.numel() for parameter in parameters]
    counted = transient_bytes(name, sum(sizes), 4, max(sizes), on_gpu=on_gpu)
    assert tracker.peak_bytes() <= counted + 4 * 2**10, "beside scalars"
    assert not weight_decay or counted <= 2 * tracker.peak_bytes() + 4 * max(sizes), "and it is no wild guess"


def test_an_optimizer_nobody_told_us_of_counts_as_adamw_and_says_so() -> None:
    assert state_bytes("made_up", 1000, 4) == state_bytes("adamw_torch", 1000, 4)
    assert not is_known("made_up")


def test_every_name_is_one_that_transformers_takes() -> None:
    from transformers.training_args import OptimizerNames

    known = {str(name.value) for name in OptimizerNames}
    assert {*STATES, *EIGHT_BIT, *TORCHAO_BITS, *IN_A_STEP} <= known


def test_every_name_that_a_config_takes_has_figures_of_its_own_or_is_named() -> None:
    assert {name for name in get_args(Optimizer) if not is_known(name)} == {"grokadamw"}, "it keeps states on the CPU"
