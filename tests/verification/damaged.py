"""Adapters that are not whole, or not made for the base that they are held against: each an intact one with one fault."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.verification.bases import Bases
from tests.verification.intact import (
    FUSED,
    INTACT,
    MIXTRAL_EXPERT,
    QWEN_EXPERT,
    Intact,
    Tensors,
    adalora,
    before,
    by_expert,
    lora,
    rewrite,
    rewrite_config,
    save_adapter,
)

Change = Callable[[Tensors], Tensors]


@dataclass(frozen=True)
class Damaged:
    """What is wrong with one."""

    kind: str
    made: str | Intact
    """By its name among the intact, or one that is whole on its own base alone."""
    tensors: Change | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None
    """What it is held against, where that is not what it was made on."""


def renamed(pattern: str, new: str) -> Change:
    return lambda tensors: {re.sub(pattern, new, name): value for name, value in tensors.items()}


def without(pattern: str) -> Change:
    return lambda tensors: {name: value for name, value in tensors.items() if not re.search(pattern, name)}


def each(pattern: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return lambda tensors: {
        name: change(value) if re.search(pattern, name) else value for name, value in tensors.items()
    }


def added(name: str, *shape: int) -> Change:
    return lambda tensors: tensors | {f"base_model.model.{name}": torch.ones(*shape)}


def cut(axis: int, count: int = 2) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.narrow(axis, 0, tensor.shape[axis] - count)


def cast(dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.to(dtype)


def old_names_of_experts(tensors: Tensors) -> Tensors:
    """Whole, but for one half of one expert."""
    whole = by_expert("block_sparse_moe", ("w1", "w3", "w2"), 24)(tensors)
    return without(r"layers\.1\..*experts\.1\.w2\.lora_B")(whole)


def one_expert_of_another_rank(tensors: Tensors) -> Tensors:
    whole = by_expert("block_sparse_moe", ("w1", "w3", "w2"), 24)(tensors)
    one = r"layers\.1\..*experts\.1\.w1"
    return each(rf"{one}\.lora_A", cut(0))(each(rf"{one}\.lora_B", cut(1))(whole))


def one_expert_gone(tensors: Tensors) -> Tensors:
    whole = by_expert("block_sparse_moe", ("w1", "w3", "w2"), 24)(tensors)
    return without(r"layers\.1\..*experts\.1\.")(whole)


WORDS = "llama_words"
ALL = "all linear layers"
ONE = r"layers\.1\.self_attn\.q_proj"
MIXTRAL, QWEN = "experts by their parameters", "qwen2_moe, experts by their parameters"
DAMAGED: dict[str, Damaged] = {
    # Names
    "every layer renamed": Damaged("names", ALL, renamed(r"model\.layers", "language_model.model.layers")),
    "half of the layers renamed": Damaged("names", "plain", renamed(r"layers\.1\.", "language_model.layers.1.")),
    "compiled": Damaged("names", "plain", renamed(r"^base_model\.model\.", "base_model.model._orig_mod.")),
    "compiled inside": Damaged("names", "plain", renamed(r"(layers\.1)\.", r"\1._orig_mod.")),
    "sharded by DDP": Damaged("names", "plain", renamed(r"^base_model\.model\.", "base_model.model.module.")),
    "sharded by FSDP": Damaged("names", "plain", renamed(r"(layers\.\d+)\.", r"\1._fsdp_wrapped_module.")),
    "without PEFT's prefix": Damaged("names", "plain", renamed(r"^base_model\.model\.", "")),
    "PEFT's prefix twice": Damaged("names", "plain", renamed("^", "base_model.model.")),
    "one layer misspelt": Damaged("names", "plain", renamed(ONE, "layers.1.self_attn.qproj")),
    "halves in small letters": Damaged("names", "plain", renamed("lora_([AB])", r"lora_\1x")),
    "without `weight`": Damaged("names", "plain", renamed(r"\.weight$", "")),
    "another adapter's name inside": Damaged("names", "plain", renamed(r"(lora_[AB])\.weight", r"\1.other.weight")),
    "blocks counted from one": Damaged("names", "plain", lambda t: renamed(r"layers\.0\.", "layers.1.")(renamed(r"layers\.1\.", "layers.2.")(t))),
    "another architecture's names": Damaged("names", "plain", renamed(r"model\.layers\.(\d)\.self_attn\.(\w)_proj", r"transformer.h.\1.attn.c_attn_\2")),
    "another architecture": Damaged("names", "gpt2", base="llama"),
    "a llama's on gpt2": Damaged("names", ALL, base="gpt2"),
    "a neox's on bloom": Damaged("names", "gpt_neox", base="bloom"),
    "a phi3's on llama": Damaged("names", "phi3", base="llama"),
    "no tensor at all": Damaged("names", "plain", lambda tensors: {}),
    "a tensor of nobody": Damaged("names", "plain", added("model.layers.0.self_attn.rotary.weight", 4, 4)),
    "tokens that the config does not name": Damaged("names", "plain", added("model.embed_tokens.token_adapter.trainable_tokens_delta", 3, 16)),
    "a bias that no B has": Damaged("names", "plain", added("model.layers.0.self_attn.q_proj.lora_B.bias", 16)),
    "a module beside its targets": Damaged("names", "plain", lambda t: t | renamed("q_proj", "o_proj")(t)),
    "a block beyond the last": Damaged("names", "plain", lambda t: t | renamed(r"layers\.1\.", "layers.2.")(t)),
    "deeper than its base": Damaged("names", lora("llama_deep", "all-linear"), base="llama"),
    "less deep than its base": Damaged("names", "plain", base="llama_deep"),
    "repeated blocks forgotten": Damaged("names", "blocks repeated", config={"layer_replication": None}),
    "targets forgotten": Damaged("names", ALL, config={"target_modules": ["q_proj"]}),
    "blocks forgotten": Damaged("names", "plain", config={"layers_to_transform": [0]}),
    "targets left to PEFT": Damaged("names", ALL, config={"target_modules": None}),
    "a norm of the base": Damaged("names", "plain", added("model.layers.0.input_layernorm.weight", 16)),
    "the last norm of the base": Damaged("names", "plain", added("model.norm.weight", 16)),
    "a matrix of the base": Damaged("names", "plain", added("model.layers.0.self_attn.o_proj.weight", 16, 16)),
    "the weight that a LoRA stands on": Damaged("names", "plain", added("model.layers.1.self_attn.q_proj.base_layer.weight", 16, 16)),
    "a bias of the base": Damaged("names", lora("llama_bias"), added("model.layers.0.mlp.up_proj.bias", 24)),
    "a fused weight of the base": Damaged("names", "gpt_neox", added("gpt_neox.layers.0.input_layernorm.weight", 16)),
    # Halves
    "no A": Damaged("halves", "plain", without("lora_A")),
    "no B": Damaged("halves", "plain", without("lora_B")),
    "no A of one layer": Damaged("halves", "plain", without(rf"{ONE}\.lora_A")),
    "no B of one layer": Damaged("halves", "plain", without(rf"{ONE}\.lora_B")),
    "no B of a block": Damaged("halves", ALL, without(r"layers\.1\..*lora_B")),
    "one layer gone": Damaged("halves", "plain", without(ONE)),
    "one block gone": Damaged("halves", ALL, without(r"layers\.1\.")),
    "every other layer gone": Damaged("halves", ALL, without(r"(q|v|up)_proj")),
    "no A of the embedding": Damaged("halves", "embedding and head as targets", without("lora_embedding_A")),
    "no B of the embedding": Damaged("halves", "embedding and head as targets", without("lora_embedding_B")),
    "no singular values of one layer": Damaged("halves", "adalora", without(r"layers\.1\..*lora_E")),
    "no B of AdaLoRA": Damaged("halves", "adalora", without("lora_B")),
    "no bias of B": Damaged("halves", "bias of B", without(rf"{ONE}\.lora_B\.bias")),
    # Widths
    "one A too narrow": Damaged("widths", "plain", each(rf"{ONE}\.lora_A", cut(1))),
    "one B too narrow": Damaged("widths", "plain", each(rf"{ONE}\.lora_B", cut(0))),
    "of a wider model": Damaged("widths", lora("llama_wide", "all-linear"), base="llama"),
    "of a wider MLP": Damaged("widths", lora("llama_mlp", ("down_proj", "up_proj")), base="llama"),
    "of other heads": Damaged("widths", lora("llama_heads", ("k_proj", "v_proj")), base="llama"),
    "of a wider gpt2": Damaged("widths", lora("gpt2_wide", ("c_attn", "c_fc"), fan_in_fan_out=True), base="gpt2"),
    "of other heads in one layer": Damaged("widths", lora("phi3_heads", ("qkv_proj",)), base="phi3"),
    "a block-diagonal B too narrow": Damaged("widths", "block-diagonal", each(r"layers\.1\..*up_proj\.lora_B", cut(0))),
    "a mamba of another state": Damaged("widths", "mamba", each(r"layers\.1\..*x_proj\.lora_B", cut(0))),
    "q and k swapped": Damaged("widths", ALL, lambda t: {n.replace("q_proj", "#").replace("k_proj", "q_proj").replace("#", "k_proj"): v for n, v in t.items()}),
    "AdaLoRA of a wider model": Damaged("widths", Intact("llama_wide", adalora()), base="llama"),
    "AdaLoRA of another rank": Damaged("widths", "adalora", config={"init_r": 8}),
    "transposed": Damaged("widths", lora("llama", ("up_proj",)), each("lora_", lambda tensor: tensor.T)),
    "A and B swapped": Damaged("widths", lora("llama", ("up_proj",)), lambda t: {n.replace("lora_A", "lora_#").replace("lora_B", "lora_A").replace("lora_#", "lora_B"): v for n, v in t.items()}),
    "another rank in one layer": Damaged("widths", "plain", lambda t: each(rf"{ONE}\.lora_A", cut(0))(each(rf"{ONE}\.lora_B", cut(1))(t))),
    "another rank than its config": Damaged("widths", "plain", config={"r": 8}),
    "a rank pattern forgotten": Damaged("widths", "rank pattern", config={"rank_pattern": {}}),
    "a flat tensor": Damaged("widths", "plain", each(rf"{ONE}\.lora_A", torch.flatten)),
    "an empty tensor": Damaged("widths", "plain", each(rf"{ONE}\.lora_B", cut(0, 16))),
    # Vocabulary, of a model that was resized
    "resized, embedding trained whole": Damaged("vocabulary", lora(WORDS, modules_to_save=["embed_tokens"]), base="llama"),
    "resized, head trained whole": Damaged("vocabulary", lora(WORDS, modules_to_save=["lm_head"]), base="llama"),
    "resized, embedding as a target": Damaged("vocabulary", lora(WORDS, ("q_proj", "embed_tokens")), base="llama"),
    "resized, head as a target": Damaged("vocabulary", lora(WORDS, ("q_proj", "lm_head")), base="llama"),
    "resized, both saved beside": Damaged("vocabulary", lora(WORDS, save={"save_embedding_layers": True}), base="llama"),
    "a head cut short": Damaged("vocabulary", "head trained whole", each("lm_head", cut(0))),
    "an embedding cut short": Damaged("vocabulary", "embedding trained whole", each("embed_tokens", cut(0))),
    "a token too few": Damaged("vocabulary", "some tokens", each("trainable_tokens", cut(0, 1))),
    "a token too few of a tied model": Damaged("vocabulary", "some tokens of a tied model", each("trainable_tokens", cut(0, 1))),
    "no B of the head": Damaged("vocabulary", "head alone", without("lora_B")),
    "a head of a tied model gone": Damaged("vocabulary", "head of a tied model trained whole", without("lm_head")),
    "a part of a module trained whole gone": Damaged("vocabulary", "a module with children trained whole", without(r"layers\.1\.mlp\.up_proj")),
    "no tokens": Damaged("vocabulary", "some tokens", without("trainable_tokens")),
    "no head": Damaged("vocabulary", "head trained whole", without("lm_head")),
    "one norm of many gone": Damaged("vocabulary", "norms and head trained whole", without(r"layers\.0\.post_attention")),
    "no norm": Damaged("vocabulary", "norms and head trained whole", without("norm")),
    # Towers
    "a tower on text": Damaged("towers", "text and towers", base="gemma3_text"),
    "a tower's names on text": Damaged("towers", "gemma3_text", renamed(r"model\.layers\.1", "model.vision_tower.encoder.layers.1")),
    "a tower that is deeper": Damaged("towers", lora("gemma3_deep_tower", "all-linear"), base="gemma3"),
    "a tower that is wider": Damaged("towers", lora("gemma3_wide_tower", "all-linear"), base="gemma3"),
    "no tower": Damaged("towers", "text and towers", without("vision_tower")),
    "a part of the tower": Damaged("towers", "text and towers", without(r"vision_tower.*layers\.1")),
    # Experts
    "of four experts": Damaged("experts", lora("mixtral_four", target_parameters=FUSED), base="mixtral"),
    "of four small experts": Damaged("experts", lora("qwen2_moe_four", target_parameters=FUSED), base="qwen2_moe"),
    "of wider experts": Damaged("experts", lora("mixtral_wide", target_parameters=FUSED), base="mixtral"),
    "of four experts with biases": Damaged("experts", lora("gpt_oss_four", target_parameters=FUSED), base="gpt_oss"),
    "old names of wider experts": Damaged("experts", lora("qwen3_moe_wide", ("q_proj", *QWEN_EXPERT), change=by_expert("mlp", QWEN_EXPERT, 12), written=before(("q_proj", *QWEN_EXPERT))), base="qwen3_moe"),
    "another rank in the experts": Damaged("experts", MIXTRAL, config={"r": 2}),
    "no B of the experts": Damaged("experts", MIXTRAL, without(r"experts.*lora_B")),
    "no A of one block's experts": Damaged("experts", MIXTRAL, without(r"layers\.1\..*experts.*lora_A")),
    "one block's experts gone": Damaged("experts", MIXTRAL, without(r"layers\.1\..*experts")),
    "one parameter of the experts gone": Damaged("experts", QWEN, without(r"layers\.1\..*experts\.base_layer")),
    "experts on a dense model": Damaged("experts", MIXTRAL, base="mistral"),
    "a dense model's on experts": Damaged("experts", ALL, base="mixtral"),
    "shared experts gone": Damaged("experts", "qwen2_moe, shared experts", without(r"layers\.1\..*shared_expert")),
    "one expert of the old names gone": Damaged("experts", "experts by their old names", one_expert_gone, before(MIXTRAL_EXPERT)),
    "half an expert of the old names gone": Damaged("experts", "experts by their old names", old_names_of_experts, before(MIXTRAL_EXPERT)),
    "one expert of another rank": Damaged("experts", "experts by their old names", one_expert_of_another_rank, before(MIXTRAL_EXPERT)),
    "one layer of a latent attention gone": Damaged("experts", "deepseek_v3", without(r"layers\.1\.self_attn\.q_a_proj")),
    "no B of a router": Damaged("experts", "gpt_oss, all linear layers", without(r"layers\.1\..*lora_B")),
    "old names that PEFT drops": Damaged("experts", lora("qwen2_moe", ("q_proj", *QWEN_EXPERT)), by_expert("mlp", QWEN_EXPERT, 8)),
    # Magnitudes and biases
    "no magnitude": Damaged("magnitudes", "dora", without("magnitude")),
    "no magnitude of one layer": Damaged("magnitudes", "dora", without(rf"{ONE}\..*magnitude")),
    "a magnitude too short": Damaged("magnitudes", "dora", each(rf"{ONE}\..*magnitude", cut(0))),
    "magnitudes forgotten by the config": Damaged("magnitudes", "dora", config={"use_dora": False}),
    "no magnitude of an embedding": Damaged("magnitudes", "dora on an embedding", without(r"embed_tokens.*magnitude")),
    "a magnitude of an embedding too short": Damaged("magnitudes", "dora on an embedding", each(r"embed_tokens.*magnitude", cut(0))),
    "a magnitude of gpt2 too short": Damaged("magnitudes", "gpt2 with dora", each(r"h\.1\..*magnitude", cut(0))),
    "one bias gone": Damaged("magnitudes", "all biases", without(rf"{ONE}.*bias")),
    "a bias of another module gone": Damaged("magnitudes", "all biases", without(r"layers\.1\.mlp\.up_proj\.bias")),
    "every bias gone": Damaged("magnitudes", "biases of its layers", without("bias")),
    "a bias too short": Damaged("magnitudes", "all biases", each(rf"{ONE}.*bias", cut(0))),
    "no sampler": Damaged("magnitudes", "monte carlo", without(r"layers\.1\..*sampler")),
    "a sampler of another size": Damaged("magnitudes", "monte carlo", each(r"layers\.1\..*expert_weights$", cut(0))),
    # Dtypes
    "in int8": Damaged("dtypes", "plain", each("lora_", cast(torch.int8))),
    "in int32": Damaged("dtypes", "plain", each("lora_", cast(torch.int32))),
    "bytes of a quantized tensor": Damaged("dtypes", "plain", each(ONE, cast(torch.uint8))),
    "in fp8": Damaged("dtypes", "plain", each("lora_", cast(torch.float8_e4m3fn))),
    "in the other fp8": Damaged("dtypes", ALL, each("lora_B", cast(torch.float8_e5m2))),
    "A in fp16, B in fp32": Damaged("dtypes", "plain", each("lora_A", cast(torch.float16))),
    "one B in bf16": Damaged("dtypes", "plain", each(rf"{ONE}\.lora_B", cast(torch.bfloat16))),
    "one half of AdaLoRA in fp16": Damaged("dtypes", "adalora within its budget", each(r"layers\.0\..*lora_B", cast(torch.float16))),
    "truth values": Damaged("dtypes", "plain", each(rf"{ONE}\.lora_A", cast(torch.bool))),
    "a head in int8": Damaged("dtypes", "head trained whole", each("lm_head", cast(torch.int8))),
}  # fmt: skip


class Adapters:
    """Intact adapters, each made when it is first asked for, and damaged copies of them."""

    def __init__(self, bases: Bases, root: Path) -> None:
        self.bases, self.root = bases, root
        self._made: dict[str, Path] = {}

    def intact(self, name: str, how: Intact | None = None) -> Path:
        if name not in self._made:
            self._made[name] = save_adapter(how or INTACT[name], self.bases, self.root / str(len(self._made)))
        return self._made[name]

    def damaged(self, name: str, folder: Path) -> tuple[Path, str]:
        """The damaged adapter, and the family of the base that it is held against."""
        fault = DAMAGED[name]
        how = INTACT[fault.made] if isinstance(fault.made, str) else fault.made
        made = self.intact(fault.made if isinstance(fault.made, str) else name, how)
        shutil.copytree(made, folder, dirs_exist_ok=True)
        if fault.tensors is not None:
            rewrite(folder, fault.tensors)
        base = fault.base or how.base
        rewrite_config(folder, **{"base_model_name_or_path": str(self.bases.folder(base)), **fault.config})
        return folder, base
