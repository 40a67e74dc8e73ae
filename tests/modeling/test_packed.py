"""A plan counts quantized weights by their own bits: against models that bitsandbytes packs for real, on the CPU."""

from __future__ import annotations

import json
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
)

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.modeling.load import load_model
from lora_backend.modeling.profiling import profile_for
from lora_backend.modeling.quantization import quantized_layers, scale_bytes
from lora_backend.planning.cost.profile import Profile
from tests.modeling.packed_files import make_fp8, make_mxfp4
from tests.often import often

SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
MODELS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES),
    "tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "weights the other way round": GPT2Config(vocab_size=96, n_embd=64, n_layer=3, n_head=4, n_positions=256, attn_pdrop=0.0),
    "experts in one tensor": MixtralConfig(**SIZES, num_local_experts=4),
    "layers outside of blocks": OPTConfig(
        vocab_size=96, hidden_size=64, word_embed_proj_dim=32, ffn_dim=128, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=256
    ),
}  # fmt: skip
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
WAYS: dict[str, dict[str, Any]] = {
    "nf4": {**NF4, "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.bfloat16},
    "no double quantization": {**NF4, "bnb_4bit_compute_dtype": torch.float16},
    "fp4, stored as bf16": {"load_in_4bit": True, "bnb_4bit_quant_storage": torch.bfloat16},
    "int8": {"load_in_8bit": True},
}
DIAGONAL = set(zip(MODELS, cycle(WAYS), strict=False))
"""Each model in one way or more."""
SKIPPED = ["lm_head", "model.layers.1.mlp", "o_proj", r"model\.layers\.[23]\.self_attn\.q.*"]


def held_bytes(model: Any) -> int:
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return int(held + sum(scale_bytes(layer) for layer in quantized_layers(model)))


def planned_bytes(profile: Profile) -> int:
    units = [profile.embed, profile.head, *(profile.kinds[kind] for kind in profile.kind_of_block)]
    return sum(unit.weights_bytes for unit in units)


def planned(folder: Path, **keys: Any) -> tuple[TrainingConfig, Profile]:
    config = TrainingConfig(model_name=str(folder), batch_size=1, max_length=64, **{"precision": "bf16", **keys})
    return config, profile_for(json.loads((folder / "config.json").read_text()), config)


def make(folder: Path, model: str, **way: Any) -> Path:
    """A checkpoint; with `way`, packed as that says."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(MODELS[model]).save_pretrained(folder)
    if way:
        packed = AutoModelForCausalLM.from_pretrained(folder, quantization_config=BitsAndBytesConfig(**way))
        (folder / "model.safetensors").unlink()
        packed.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("model", "way"), often(product(MODELS, WAYS), {*product(["llama"], WAYS), *DIAGONAL}))
def test_a_packed_checkpoint_is_planned_by_its_own_bits(model: str, way: str, tmp_path: Path) -> None:
    config, profile = planned(make(tmp_path, model, **WAYS[way]))
    assert planned_bytes(profile) == held_bytes(load_model(config))
    assert (profile.method, profile.expected_error) == ("traced", 0.01)


@pytest.mark.parametrize(
    ("model", "word"),
    often(product(MODELS, ("nf4", "int8")), {("llama", "nf4"), *zip(MODELS, cycle(("int8", "nf4")), strict=False)}),
)
def test_a_model_that_is_packed_at_loading_is_planned_so(model: str, word: str, tmp_path: Path) -> None:
    config, profile = planned(make(tmp_path, model), quantization=word)
    assert planned_bytes(profile) == held_bytes(load_model(config))


@pytest.mark.parametrize("way", ["nf4", "int8"])
def test_modules_that_a_checkpoint_leaves_whole_are_counted_whole(way: str, tmp_path: Path) -> None:
    """Blocks that differ by it are kinds of their own."""
    config, profile = planned(make(tmp_path, "llama", **WAYS[way], llm_int8_skip_modules=SKIPPED))
    assert planned_bytes(profile) == held_bytes(load_model(config))
    assert len(profile.kinds) == 4


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_checkpoint_that_is_unpacked_at_loading_is_planned_as_large_as_it_becomes(
    precision: str, tmp_path: Path
) -> None:
    make_fp8(tmp_path / "fp8")
    make_mxfp4(tmp_path / "mxfp4")
    for name in ("fp8", "mxfp4") if precision == "bf16" else ("fp8",):
        config, profile = planned(tmp_path / name, precision=precision, target_modules=["q_proj"])
        assert planned_bytes(profile) == held_bytes(load_model(config))


@pytest.mark.parametrize(
    ("how", "layer_bytes"),
    [
        # 4 bits each; a scale and a zero for each group; an index for each input
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, 64 * 192 // 2 + 2 * 192 * 2 + 2 * 192 // 2 + 4 * 64),
        pytest.param({"quant_method": "gptq", "bits": 8, "group_size": -1}, 64 * 192 + 192 * 2 + 192 + 4 * 64, marks=pytest.mark.soak),
        pytest.param({"quant_method": "gptq", "bits": 3, "group_size": 64}, 64 * 192 * 3 // 8 + 192 * 2 + 192 * 3 // 8 + 4 * 64, marks=pytest.mark.soak),
        ({"quant_method": "awq", "bits": 4, "group_size": 32}, 64 * 192 // 2 + 2 * 192 * 2 + 2 * 192 // 2),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 32}}}, 64 * 192 // 2 + 2 * 2 * 2 * 192),
        ({"quant_method": "aqlm", "in_group_size": 8, "linear_weights_not_to_quantize": ["lm_head.weight"]}, 64 * 192 // 8 * 2 + 2 * (2**16 * 8 + 192)),
    ],
    ids=str,
)  # fmt: skip
def test_methods_that_have_no_library_here_are_planned_by_what_their_layers_register(
    how: dict[str, Any], layer_bytes: int, tmp_path: Path
) -> None:
    """Only `up_proj`, so that one layer's bytes show; the kernels were never run here, and the error says so."""
    folder = make(tmp_path, "llama")
    facts = json.loads((folder / "config.json").read_text())
    config = TrainingConfig(model_name="m", batch_size=1, max_length=64, precision="bf16")
    whole, packed = profile_for(facts, config), profile_for({**facts, "quantization_config": how}, config)
    assert (packed.method, packed.parameters, packed.expected_error) == ("traced", whole.parameters, 0.1)
    skipped = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "down")]
    one: dict[str, dict[str, Any]] = {
        "gptq": {"modules_in_block_to_quantize": [["mlp.up_proj"]]},
        "awq": {"modules_to_not_convert": skipped},
        "hqq": {"skip_modules": ["lm_head", *(f"{'mlp' if name[0] in 'gd' else 'self_attn'}.{name}" for name in skipped)]},
        "aqlm": {"linear_weights_not_to_quantize": ["lm_head.weight", *(f"{name}.weight" for name in skipped)]},
    }  # fmt: skip
    profile = profile_for({**facts, "quantization_config": how | one[how["quant_method"]]}, config)
    saved = (planned_bytes(whole) - planned_bytes(profile)) // SIZES["num_hidden_layers"]
    assert 2 * 64 * 192 - saved == layer_bytes


def test_gptq_keeps_what_it_unpacks_unless_blocks_are_computed_again(tmp_path: Path) -> None:
    """Its layer leaves the product to autograd."""
    folder = make(tmp_path, "llama")
    facts = json.loads((folder / "config.json").read_text())
    kept = {}
    for method in ("gptq", "awq"):
        for checkpointing in (False, True):
            config = TrainingConfig(
                model_name="m", batch_size=1, max_length=64, precision="bf16", gradient_checkpointing=checkpointing
            )
            profile = profile_for({**facts, "quantization_config": {"quant_method": method, "bits": 4}}, config)
            kept[method, checkpointing] = profile.kinds[1].forward.delta[0]
    weights = 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 192)
    assert kept["gptq", False] - kept["awq", False] >= weights
    assert kept["gptq", True] == kept["awq", True]


@pytest.mark.parametrize(
    ("how", "key"),
    [
        ({"quant_method": "gptq", "bits": 5}, "bits"),
        ({"quant_method": "gptq", "bits": "4"}, "bits"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 0}, "group_size"),
        ({"quant_method": "gptq", "bits": 4, "modules_in_block_to_quantize": "all"}, "modules_in_block_to_quantize"),
        ({"quant_method": "awq", "bits": 4, "modules_to_not_convert": "lm_head"}, "modules_to_not_convert"),
        ({"quant_method": "awq", "bits": 2}, "bits"),
        ({"quant_method": "bitsandbytes"}, "load_in_4bit"),
        ({"load_in_4bit": True, "bnb_4bit_compute_dtype": "int8"}, "bnb_4bit_compute_dtype"),
        ({"load_in_8bit": True, "llm_int8_skip_modules": [1]}, "llm_int8_skip_modules"),
        ({"quant_method": "hqq"}, "quant_config"),
        ({"quant_method": "aqlm", "num_codebooks": 65}, "num_codebooks"),
    ],
    ids=str,
)
def test_a_checkpoint_whose_own_figures_cannot_be_is_refused_by_key(how: dict[str, Any], key: str) -> None:
    facts = {**SIZES, "model_type": "llama", "quantization_config": how}
    with pytest.raises(ModelError, match=rf"^`{key}` in the model's quantization_config is .*Check config.json"):
        profile_for(facts, TrainingConfig(model_name="m", precision="bf16"))


def test_a_refusal_that_names_a_key_of_the_model_is_still_a_sentence() -> None:
    facts = {**SIZES, "model_type": "llama", "num_hidden_layers": 10**9}
    with pytest.raises(ModelError, match=r"^`num_hidden_layers` in config.json is 1000000000; the limit is"):
        profile_for(facts, TrainingConfig(model_name="m", precision="bf16"))


@pytest.mark.parametrize("method", ["gptq", "awq", "aqlm", "hqq"])
def test_dora_is_refused_where_peft_has_none(method: str) -> None:
    how = {"quant_method": method, "bits": 4, "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}
    facts = {**SIZES, "model_type": "llama", "quantization_config": how}
    config = TrainingConfig(model_name="m", precision="bf16", batch_size=1, use_dora=True)
    if method == "hqq":
        assert profile_for(facts, config).method == "traced"
        return
    with pytest.raises(ModelError, match=rf"^DoRA does not work on weights that {method} has packed"):
        profile_for(facts, config)
