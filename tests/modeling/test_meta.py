"""Models without bytes: reshaped by rank and depth, and maps that fit them whole."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
import torch
from accelerate.utils import check_device_map

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.meta import build_base, build_meta, keep_blocks, model_config, set_rank, signature, trained
from lora_backend.models.catalogue import catalogue
from lora_backend.planning.cost.profile import TrainedTensors
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.plan import device_map
from tests.planning.profiles import CONFIG, LLAMA, TIED, WINDOWS, profile_of, shallow

SMALLEST = {model.model_type: model.name for model in sorted(catalogue(), key=lambda model: -model.parameters)}
IN_EVERY_RUN = ("gpt2", "llama", "bloom", "opt", "gpt_neox", "mpt", "gemma2", "falcon", "lfm2", "granitemoehybrid")
"""Families whose modules are named or lie most differently; the others take minutes together."""


def meta_of(facts: dict[str, Any], **keys: Any) -> Any:
    config = CONFIG.model_copy(update=keys)
    return build_meta(facts, TraceSettings.of(config, "bf16"), config)


def shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("facts", [LLAMA, shallow("openai-community/gpt2", 2)], ids=["Linear", "Conv1D"])
def test_another_rank_gives_the_shapes_that_it_would_be_built_with(facts: dict[str, Any]) -> None:
    meta = meta_of(facts, r=16)
    set_rank(meta.model, 16, 5)
    assert shapes(meta.model) == shapes(meta_of(facts, r=5).model)


def test_an_endless_limit_as_transformers_writes_it_is_read() -> None:
    written = {"model_type": "granitemoehybrid", "time_step_limit": [0.0, {"__float__": "Infinity"}]}
    assert list(model_config(written).time_step_limit) == [0.0, float("inf")]


def test_layers_with_a_rank_of_their_own_keep_it() -> None:
    meta = meta_of(LLAMA, r=16, rank_pattern={"q_proj": 3})
    set_rank(meta.model, 16, 8)
    assert shapes(meta.model) == shapes(meta_of(LLAMA, r=8, rank_pattern={"q_proj": 3}).model)


def test_trained_parameters_are_split_by_what_follows_the_rank() -> None:
    meta = meta_of(LLAMA, r=16, rank_pattern={"q_proj": 3})
    found = trained(meta.blocks[1], 16)
    hidden, inner, narrow = 64, 160, 32
    assert sum(tensors.fixed * tensors.num_tensors for tensors in found) == 3 * 2 * hidden
    per_rank = 2 * (hidden + narrow) + 2 * hidden + 3 * (hidden + inner)
    assert sum(tensors.per_rank * tensors.num_tensors for tensors in found) == per_rank
    assert max(tensors.size(16) for tensors in found) == 16 * inner


def test_tables_of_embeddings_that_train_are_told_from_the_rest() -> None:
    meta = meta_of(LLAMA, modules_to_save=["embed_tokens", "lm_head"], target_modules=["embed_tokens", "q_proj"])
    assert [tensors for tensors in trained(meta.base.get_input_embeddings(), 16) if tensors.is_embedding] == [
        TrainedTensors(512 * 64, is_embedding=True, sides=512 + 64)
    ]
    assert trained(meta.base.get_output_embeddings(), 16) == (TrainedTensors(512 * 64, sides=512 + 64),)


def test_adapters_have_the_precision_of_the_settings_and_the_base_its_own() -> None:
    for adapter, dtype in (("fp32", "torch.float32"), ("bf16", "torch.bfloat16")):
        meta = build_meta(LLAMA, TraceSettings(adapter_precision=adapter), CONFIG)  # type: ignore[arg-type]
        assert {str(p.dtype) for p in meta.model.parameters() if p.requires_grad} == {dtype}
        assert {str(p.dtype) for p in meta.model.parameters() if not p.requires_grad} == {"torch.bfloat16"}


def test_no_byte_is_there_and_ties_are() -> None:
    base = build_base(TIED, TraceSettings())
    assert all(parameter.is_meta for parameter in base.parameters())
    assert base.get_input_embeddings().weight is base.get_output_embeddings().weight


def test_a_shorter_model_says_so_and_numbers_its_blocks_anew() -> None:
    meta = meta_of(WINDOWS)
    windows = [block.self_attn.sliding_window for block in meta.blocks]
    keep_blocks(meta, [0, 1, 5])
    assert meta.base.config.num_hidden_layers == len(meta.base.model.layers) == 3
    assert [block.self_attn.layer_idx for block in meta.blocks] == [0, 1, 2]
    assert [block.self_attn.sliding_window for block in meta.blocks] == [windows[0], windows[1], windows[5]]
    assert len(meta.base.config.layer_types) == 3


def test_blocks_are_alike_by_shape_and_setting_not_by_number() -> None:
    signatures = [signature(block) for block in meta_of(WINDOWS).blocks]
    assert signatures[0] == signatures[2] != signatures[1] == signatures[3]
    adapted = [signature(block) for block in meta_of(LLAMA, target_layers=[1]).blocks]
    assert adapted[0] == adapted[2] != adapted[1]


def test_flash_attention_that_is_not_installed_is_traced_as_torchs_own() -> None:
    assert build_base(LLAMA, TraceSettings(attn_implementation="flash_attention_2")).config._attn_implementation == "sdpa"  # fmt: skip
    assert build_base(LLAMA, TraceSettings(attn_implementation="eager")).config._attn_implementation == "eager"


# ------------------------------------------------------------------------------------------ maps


@pytest.mark.parametrize(
    "family",
    [pytest.param(family, marks=[] if family in IN_EVERY_RUN else [pytest.mark.soak]) for family in sorted(SMALLEST)],
)
def test_a_map_covers_every_parameter_once_and_is_accepted_by_accelerate(family: str) -> None:
    facts = shallow(SMALLEST[family], 3)
    profile = profile_of(facts, TraceSettings())
    model = build_base(facts, TraceSettings())
    units = profile.num_units
    placed = device_map(profile, [0, 1, 1, 2, 2][:units])
    check_device_map(model, placed)
    homes: dict[int, set[int | str]] = defaultdict(set)
    for name, tensor in model.state_dict(keep_vars=True).items():
        entries = [entry for entry in placed if name == entry or name.startswith(f"{entry}.")]
        assert len(entries) == 1, name
        homes[id(tensor)].add(placed[entries[0]])
    assert all(len(home) == 1 for home in homes.values()), "what is one tensor is on one device"
    blocks = {f"{profile.blocks_path}.{index}" for index in range(3)}
    assert blocks <= set(placed)
    assert not [entry for entry in placed for block in blocks if entry.startswith(f"{block}.")], "no block is split"


def test_every_family_of_the_catalogue_is_tried() -> None:
    assert len(SMALLEST) >= 30
    assert set(IN_EVERY_RUN) <= set(SMALLEST)


def test_config_keys_reach_the_adapter() -> None:
    config = TrainingConfig(model_name="any", precision="bf16", target_modules=["q_proj"], target_layers=[2])
    meta = build_meta(LLAMA, TraceSettings.of(config, "bf16"), config)
    names = [name for name, parameter in meta.model.named_parameters() if parameter.requires_grad]
    assert len(names) == 2
    assert all("layers.2.self_attn.q_proj.lora_" in name for name in names)


def test_a_config_is_not_written_into() -> None:
    """transformers writes into nested values; what is planned must stay what it was, for profiles are kept by it."""
    for model in catalogue():
        before = json.dumps(model.config, sort_keys=True)
        model_config(model.config)
        assert json.dumps(model.config, sort_keys=True) == before, model.name


@pytest.mark.parametrize("family", ["diffllama", "xlnet"])
def test_no_tensor_of_a_family_that_ignores_the_meta_device_has_bytes(family: str) -> None:
    own = {"xlnet": {"vocab_size": 64, "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 96}, "diffllama": LLAMA}
    facts = {**own[family], "model_type": family}
    base = build_base(facts, TraceSettings())
    assert all(tensor.is_meta for tensor in (*base.parameters(), *base.buffers()))
    assert {parameter.dtype for parameter in base.parameters()} == {torch.bfloat16}
