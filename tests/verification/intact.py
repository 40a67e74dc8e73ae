"""Adapters of every kind that PEFT saves for causal models, made by PEFT itself on tiny bases: nothing is wrong with any."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    BdLoraConfig,
    IA3Config,
    KasaConfig,
    LoHaConfig,
    LoraConfig,
    MontecloraConfig,
    PromptTuningConfig,
    VeloraConfig,
    VeraConfig,
    get_peft_model,
    initialize_lora_eva_weights,
)
from safetensors.torch import load_file, save_file

from tests.verification.bases import Bases

Tensors = dict[str, torch.Tensor]
FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class Intact:
    """How one adapter is made."""

    base: str
    config: Callable[[], Any]
    change: Callable[[Tensors], Tensors] | None = None
    """Of its file: another way to write the same."""
    written: dict[str, Any] = field(default_factory=dict)
    """Keys of its config that are written otherwise."""
    prepare: Callable[[Any], None] | None = None
    """Of the model with its adapter, before it is as if trained."""
    save: dict[str, Any] = field(default_factory=dict)
    adapter: str = "default"
    is_lora: bool = True


def lora(base: str, targets: Any = ("q_proj", "v_proj"), **more: Any) -> Intact:
    how = {key: more.pop(key) for key in ("change", "written", "prepare", "save", "adapter") if key in more}
    named = targets if isinstance(targets, str) or targets is None else list(targets)
    values = {"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": named} | more
    return Intact(base, lambda: LoraConfig(**values), **how)


def adalora(**more: Any) -> Callable[[], Any]:
    values = {"init_r": 4, "target_r": 2, "total_step": 9, "tinit": 0, "tfinal": 0, "target_modules": ["q_proj"]}
    return lambda: AdaLoraConfig(task_type="CAUSAL_LM", **values | more)


def prune(model: Any) -> None:
    """As AdaLoRA's budget leaves it: some rows of each layer."""
    model.peft_config["default"].rank_pattern = {
        f"model.layers.{block}.self_attn.q_proj.lora_E": [True] * (block + 1) + [False] * (3 - block)
        for block in (0, 1)
    }


def measure(model: Any) -> None:
    """EVA takes its first values, and its ranks, from data."""
    initialize_lora_eva_weights(model, [{"input_ids": torch.arange(32).reshape(2, 16)}] * 4, show_progress_bar=False)


def by_expert(block: str, parts: tuple[str, str, str], count: int) -> Callable[[Tensors], Tensors]:
    """The file as earlier versions of transformers named its experts: each with a LoRA of its own."""

    def write(tensors: Tensors) -> Tensors:
        generator = torch.Generator().manual_seed(0)
        kept = {name: value for name, value in tensors.items() if "experts" not in name}
        layers = sorted({found[0] for name in tensors if (found := re.match(r".*layers\.\d+\.", name))})
        sizes = {parts[0]: (16, count), parts[1]: (16, count), parts[2]: (count, 16)}
        for layer in layers:
            for expert in range(2):
                for part, (width_in, width_out) in sizes.items():
                    name = f"{layer}{block}.experts.{expert}.{part}"
                    kept[f"{name}.lora_A.weight"] = torch.randn(4, width_in, generator=generator)
                    kept[f"{name}.lora_B.weight"] = torch.randn(width_out, 4, generator=generator)
        return kept

    return write


def before(targets: Sequence[str]) -> dict[str, Any]:
    """The keys of such a config that PEFT turns into parameters of experts when it is loaded."""
    return {"target_modules": list(targets), "target_parameters": None, "rank_pattern": {}, "alpha_pattern": {}}


def named_by_adapter(tensors: Tensors) -> Tensors:
    """As the names stand in a live model's state dict."""
    return {re.sub(r"(lora_[AB])\.weight", r"\1.default.weight", name): value for name, value in tensors.items()}


def cast(dtype: torch.dtype) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: value.to(dtype) for name, value in tensors.items()}


LATER = (
    "peft_version",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
    "rank_pattern",
    "exclude_modules",
    "lora_bias",
)
"""Keys that early versions of PEFT do not write."""
FUSED = ["experts.gate_up_proj", "experts.down_proj"]
MIXTRAL_EXPERT = ("q_proj", "w1", "w2", "w3")
QWEN_EXPERT = ("gate_proj", "up_proj", "down_proj")
EXPRESSION = r".*\.layers\.0\.(self_attn|mlp)\..*(q_proj|up_proj)"
INTACT: dict[str, Intact] = {
    "plain": lora("llama"),
    "all linear layers": lora("llama", "all-linear"),
    "rank pattern": lora("llama", rank_pattern={"layers.1.self_attn.q_proj": 2, r".*\.v_proj": 3}),
    "alpha pattern": lora("llama", alpha_pattern={"v_proj": 32}),
    "rank-stabilized": lora("llama", use_rslora=True),
    "dora": lora("llama", use_dora=True),
    "dora on an embedding": lora("llama", ("q_proj", "embed_tokens"), use_dora=True),
    "all biases": lora("llama_bias", bias="all"),
    "biases of its layers": lora("llama_bias", bias="lora_only"),
    "bias of B": lora("llama_bias", lora_bias=True),
    "head trained whole": lora("llama", modules_to_save=["lm_head"]),
    "embedding trained whole": lora("llama", modules_to_save=["embed_tokens"]),
    "norms and head trained whole": lora("llama", modules_to_save=["lm_head", "norm"]),
    "a module with children trained whole": lora("llama", modules_to_save=["mlp"]),
    "embedding and head as targets": lora("llama", ("q_proj", "embed_tokens", "lm_head")),
    "head alone": lora("llama", ("lm_head",)),
    "embedding of a tied model": lora("llama_tied", ("q_proj", "embed_tokens")),
    "both ends of a tied weight": lora("llama_tied", ("embed_tokens", "lm_head"), ensure_weight_tying=True),
    "tied weight trained whole": lora("llama_tied", modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    "head of a tied model trained whole": lora("llama_tied", modules_to_save=["lm_head"]),
    "head of a tied model as a target": lora("llama_tied", ("lm_head",)),
    "both embeddings trained whole": lora("llama", modules_to_save=["embed_tokens", "lm_head"]),
    "both embeddings saved beside": lora("llama", save={"save_embedding_layers": True}),
    "of a resized model that is here": lora("llama_words", ("q_proj", "embed_tokens")),
    "some tokens": lora("llama", trainable_token_indices=[1, 3, 5]),
    "some tokens of a tied model": lora("llama_tied", trainable_token_indices=[1, 3, 5]),
    "some blocks": lora("llama", layers_to_transform=[1]),
    "some blocks of a named list": lora("llama", layers_to_transform=[1], layers_pattern="layers"),
    "targets by their whole names": lora("llama", ("model.layers.0.self_attn.q_proj", "layers.1.mlp.up_proj")),
    "block-diagonal": lora("llama", ("q_proj", "up_proj"), use_bdlora=BdLoraConfig(target_modules_bd_a=["q_proj"], target_modules_bd_b=["up_proj"], nblocks=2)),
    "monte carlo": lora("llama", monteclora_config=MontecloraConfig()),
    "kasa": lora("llama", kasa_config=KasaConfig()),
    "velora": lora("llama", velora_config=VeloraConfig()),
    "a config of few words": lora("llama", written=dict.fromkeys(LATER, ...)),
    "a config of a later PEFT": lora("llama", written={"something_new": 1}),
    "switched on by tokens": lora("llama", alora_invocation_tokens=[1]),
    "rank-stabilized by patterns": lora("llama", use_rslora=True, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 32}),
    "left out by an expression": lora("llama", "all-linear", exclude_modules=r".*mlp.*"),
    "left out by name": lora("llama", "all-linear", exclude_modules=["q_proj", "layers.1.mlp.up_proj"]),
    "targets by an expression": lora("llama", EXPRESSION),
    "blocks repeated": lora("llama", layer_replication=[[0, 2], [1, 2]]),
    "pissa": lora("llama", init_lora_weights="pissa"),
    "olora": lora("llama", init_lora_weights="olora"),
    "gaussian": lora("llama", init_lora_weights="gaussian"),
    "orthogonal": lora("llama", init_lora_weights="orthogonal"),
    "eva": lora("llama", init_lora_weights="eva", prepare=measure),
    "random": lora("llama", init_lora_weights=False),
    "adalora": Intact("llama", adalora()),
    "adalora within its budget": Intact("llama", adalora(), prepare=prune),
    "in bf16": lora("llama", change=cast(torch.bfloat16)),
    "in fp16": lora("llama", change=cast(torch.float16)),
    "pickled": lora("llama", save={"safe_serialization": False}),
    "of another name": lora("llama", adapter="other"),
    "names with the adapter's": lora("llama", change=named_by_adapter),
    "gpt2": lora("gpt2", ("c_attn", "c_fc", "c_proj"), fan_in_fan_out=True),
    "gpt2 with dora": lora("gpt2", ("c_attn",), use_dora=True, fan_in_fan_out=True),
    "gpt2 with biases": lora("gpt2", ("c_attn",), bias="all", fan_in_fan_out=True),
    **{
        family: lora(family, "all-linear")
        for family in (
            "opt", "bloom", "falcon", "gpt_neox", "gemma2", "mistral", "qwen2", "qwen3", "phi3", "gemma3_text", "cohere",
            "granite", "olmo2", "stablelm", "starcoder2", "phi", "gptj", "olmoe", "granitemoe", "deepseek_v3",
        )
    },
    "norms by the end of their names": lora("lfm2", modules_to_save=["norm"]),
    "tied head of another name": lora("roformer", ("query", "decoder")),
    "biases of a tied head of another name": lora("roformer", ("query",), bias="all"),
    "blocks repeated beside an infinite figure": lora("bamba", ("up_proj",), layer_replication=[[0, 2], [1, 2]]),
    "mamba": lora("mamba", ("in_proj", "x_proj")),
    "qwen2 with all biases": lora("qwen2", bias="all"),
    "opt with biases of its layers": lora("opt", bias="lora_only"),
    "gpt2 with all biases and a norm trained whole": lora("gpt2", ("c_attn",), bias="all", modules_to_save=["ln_f"], fan_in_fan_out=True),
    "gpt2 with bias of B": lora("gpt2", ("c_attn",), lora_bias=True, fan_in_fan_out=True),
    "experts by their old names": lora("mixtral", MIXTRAL_EXPERT),
    "experts by their parameters": lora("mixtral", target_parameters=FUSED),
    "experts alone": lora("mixtral", None, target_parameters=["experts.down_proj"]),
    "mixtral, all linear layers": lora("mixtral", "all-linear"),
    "experts one by one": lora(
        "mixtral", MIXTRAL_EXPERT, change=by_expert("block_sparse_moe", ("w1", "w3", "w2"), 24), written=before(MIXTRAL_EXPERT)
    ),
    "qwen2_moe, experts by their parameters": lora("qwen2_moe", target_parameters=FUSED),
    "qwen2_moe, shared experts": lora("qwen2_moe", ("q_proj", "shared_expert.up_proj", "shared_expert.down_proj")),
    "qwen2_moe, all linear layers": lora("qwen2_moe", "all-linear"),
    "qwen3_moe": lora("qwen3_moe", target_parameters=FUSED),
    "qwen3_moe, experts one by one": lora(
        "qwen3_moe", ("q_proj", *QWEN_EXPERT), change=by_expert("mlp", QWEN_EXPERT, 8), written=before(("q_proj", *QWEN_EXPERT))
    ),
    "gpt_oss": lora("gpt_oss", target_parameters=FUSED),
    "gpt_oss, all linear layers": lora("gpt_oss", "all-linear"),
    "text and towers": lora("gemma3", "all-linear"),
    "text of a vision-language model": lora("gemma3", r".*language_model.*(q|v)_proj"),
    "vera": Intact("llama", lambda: VeraConfig(r=4, target_modules=["q_proj"]), is_lora=False),
    "loha": Intact("llama", lambda: LoHaConfig(r=4, target_modules=["q_proj"]), is_lora=False),
    "ia3": Intact("llama", lambda: IA3Config(target_modules=["q_proj"], feedforward_modules=[]), is_lora=False),
    "prompt tuning": Intact("llama", lambda: PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), is_lora=False),
}  # fmt: skip


def save_adapter(how: Intact, bases: Bases, folder: Path) -> Path:
    """Make the adapter on its base, as if trained, and save it as PEFT does; returns the folder that holds it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = get_peft_model(bases.model(how.base), how.config(), adapter_name=how.adapter)
        if how.prepare is not None:
            how.prepare(model)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(folder, **how.save)
    folder = folder if how.adapter == "default" else folder / how.adapter
    if how.change is not None:
        rewrite(folder, how.change)
    if how.written:
        rewrite_config(folder, **how.written)
    return folder


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Change the tensors of an adapter's file."""
    tensors = {name: value.contiguous().clone() for name, value in change(load_file(folder / FILE)).items()}
    save_file(tensors, folder / FILE, {"format": "pt"})


def rewrite_config(folder: Path, **changes: Any) -> None:
    """Change keys of an adapter's `adapter_config.json`; `...` takes one out."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
