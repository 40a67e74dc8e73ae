"""What trains is fp32 beside half precision, and the model around it does not notice."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from peft import PeftModel
from torch import nn
from torch.optim import AdamW
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    Mamba2Config,
    MixtralConfig,
    PreTrainedModel,
    Qwen2Config,
)

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.load import load_model
from lora_backend.modeling.loss_check import verified_chunked_loss

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES),
    "tied": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SIZES),
    "gpt2": GPT2Config(vocab_size=64, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
    "mixtral": MixtralConfig(**SIZES, num_local_experts=4),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=16),  # its embedding scales rows by a number in its own dtype
    "mamba2": Mamba2Config(
        vocab_size=64, hidden_size=64, num_hidden_layers=2, num_heads=8, head_dim=16, state_size=16, n_groups=1,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    ),  # casts what it passes to head and norms to their weights' dtype
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "LoRA": ("llama", {}, "lora_B"),
    "head": ("llama", {"modules_to_save": ["lm_head"]}, "lm_head.modules_to_save"),
    "head of a tied model": ("tied", {"modules_to_save": ["lm_head"]}, "lm_head.modules_to_save"),
    "embedding": ("llama", {"modules_to_save": ["embed_tokens"]}, "embed_tokens.modules_to_save"),
    "embedding that scales": ("gemma3", {"modules_to_save": ["embed_tokens"]}, "embed_tokens.modules_to_save"),
    "norms": ("llama", {"modules_to_save": ["norm", "input_layernorm"]}, "norm.modules_to_save"),
    "norms with offset": ("gemma3", {"modules_to_save": ["post_attention_layernorm"]}, "norm.modules_to_save"),
    "model that casts": (
        "mamba2",
        {"modules_to_save": ["lm_head", "norm"], "target_modules": ["in_proj"]},
        "modules_to_save",
    ),
    "whole MLP": ("llama", {"modules_to_save": ["mlp"], "target_modules": ["q_proj"]}, "down_proj.weight"),
    "biases of linear layers": ("qwen2", {"bias": "all"}, "q_proj.base_layer.bias"),
    "biases of adapted layers": ("qwen2", {"bias": "lora_only", "target_modules": ["v_proj"]}, "base_layer.bias"),
    "biases of norms": ("gpt2", {"bias": "all"}, "ln_1.bias"),
    "magnitudes": ("llama", {"use_dora": True}, "lora_magnitude_vector"),
    "magnitudes of an embedding": ("llama", {"use_dora": True, "target_modules": ["embed_tokens"]}, "magnitude"),
    "experts": ("mixtral", {}, "experts"),
}
IN_FP16 = ("LoRA", "head", "embedding", "norms", "biases of linear layers", "biases of norms", "magnitudes", "experts")
"""Kinds of a trained part, once each; the rest are other ways for a model to use them."""
RATE = 1e-6
"""A step that bf16 (1/256 of a weight) and fp16 (1/2048) round away for every weight above `LARGE`."""
LARGE, STEPS = 0.01, 8
IDS = torch.arange(2, 34).reshape(2, 16)


def made(family: str, dtype: torch.dtype) -> PreTrainedModel:
    """With random biases and offsets: transformers begins with zeros, which take any step."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(FAMILIES[family], dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_()
    return model


def attached(family: str, dtype: torch.dtype, **keys: Any) -> PeftModel:
    return attach_adapter(made(family, dtype), TrainingConfig(model_name="any", r=4, **keys))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def train(model: nn.Module, dtype: torch.dtype) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Some steps as Trainer makes them; per trained tensor, before and after, weights that got a gradient in every step
    and are large enough for half precision to lose it."""
    model.train()
    parts = trained(model)
    with torch.no_grad():
        for name, one in parts.items():
            if "lora_" in name and "magnitude" not in name:
                one.normal_(std=0.1)  # B begins with zeros, which take any step
    before = {name: one.detach().clone() for name, one in parts.items()}
    moved = {name: one.abs() > LARGE for name, one in before.items()}
    optimizer = AdamW(parts.values(), lr=RATE, weight_decay=0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=dtype == torch.float16)
    for _ in range(STEPS):
        with torch.autocast("cpu", dtype):
            loss = model(input_ids=IDS, labels=IDS)["loss"]
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)  # refuses gradients in fp16
        for name, one in parts.items():
            assert one.grad is not None, name
            moved[name] &= one.grad != 0
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return {name: (before[name][moved[name]], one.detach()[moved[name]]) for name, one in parts.items()}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, torch.bfloat16) for kind in KINDS), *((kind, torch.float16) for kind in IN_FP16)],
    ids=str,
)
def test_steps_too_small_for_half_precision_add_up(kind: str, dtype: torch.dtype) -> None:
    family, keys, part = KINDS[kind]
    model = attached(family, dtype, **keys)
    found = train(model, dtype)
    assert {one.dtype for one in trained(model).values()} == {torch.float32}
    looked_at = [pair for name, pair in found.items() if part in name and pair[0].numel()]
    assert looked_at, "weights of the kind are among them"
    for before, after in looked_at:
        assert (after - before).abs().median() > RATE * STEPS / 2
        assert (after != before).float().mean() > 0.99


@pytest.mark.parametrize("autocast", [True, False], ids=["training", "answering"])
@pytest.mark.parametrize("kind", KINDS)
def test_before_the_first_step_the_model_is_what_it_was(kind: str, autocast: bool) -> None:
    """A fresh adapter adds nothing, so every module outside of it must return what it returned, in the same dtype."""
    family, keys, _ = KINDS[kind]
    base = made(family, torch.bfloat16).eval()
    model = attach_adapter(copy.deepcopy(base), TrainingConfig(model_name="any", r=4, **keys)).eval()
    seen: dict[str, dict[str, torch.dtype]] = {"base": {}, "adapted": {}}
    logits = {}
    for label, one, inner in (("base", base, base), ("adapted", model, model.get_base_model())):
        handles = [
            module.register_forward_hook(
                lambda _, __, output, name=name, label=label: seen[label].update({name: first_dtype(output)})
            )
            for name, module in inner.named_modules()
            if name in {name for name, _ in base.named_modules()}
        ]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits[label] = one(input_ids=IDS).logits
        for handle in handles:
            handle.remove()
    assert seen["adapted"] == {name: dtype for name, dtype in seen["base"].items() if name in seen["adapted"]}
    if not keys.get("use_dora"):  # whose scale is a quotient of two norms
        assert torch.equal(logits["base"], logits["adapted"])


def first_dtype(output: Any) -> Any:
    tensors = output if isinstance(output, tuple) else output.values() if isinstance(output, dict) else [output]
    return next((one.dtype for one in tensors if isinstance(one, torch.Tensor)), None)


@pytest.mark.parametrize("kind", ["embedding", "norms", "biases of norms", "whole MLP", "head"])
def test_checkpointing_finds_the_same_gradients(kind: str) -> None:
    family, keys, _ = KINDS[kind]
    found = []
    for checkpointing in (False, True):
        model = attached(family, torch.bfloat16, **keys).train()
        if checkpointing:
            model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
        with torch.autocast("cpu", torch.bfloat16):
            model(input_ids=IDS, labels=IDS)["loss"].backward()
        found.append({name: one.grad for name, one in trained(model).items()})
        assert all(one.dtype == torch.float32 for one in trained(model).values()), "they are back in their places"
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


def test_a_model_that_is_spread_over_devices_computes_the_same() -> None:
    """accelerate puts hooks of its own on every module, also where all devices are one."""
    places = dict.fromkeys(
        ("model.embed_tokens", "model.rotary_emb", "model.layers.0", "model.layers.1", "model.norm", "lm_head"), "cpu"
    )
    config = TrainingConfig(model_name="any", r=4, bias="all", modules_to_save=["embed_tokens", "lm_head", "norm"])
    found = []
    for is_spread in (False, True):
        base = made("qwen2", torch.bfloat16)
        base = dispatch_model(base, places, force_hooks=True) if is_spread else base
        torch.manual_seed(1)
        model = attach_adapter(base, config).train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=IDS, labels=IDS)["loss"]
        loss.backward()
        found.append({name: one.grad for name, one in trained(model).items()})
    assert {gradient.dtype for gradient in found[1].values()} == {torch.float32}
    assert all(torch.equal(gradient, found[1][name]) for name, gradient in found[0].items())


def test_a_forward_that_fails_leaves_the_parameters_in_their_places() -> None:
    model = attached("llama", torch.bfloat16, modules_to_save=["lm_head"])
    head = model.get_base_model().lm_head.modules_to_save["default"]
    parameter = head.weight
    with pytest.raises(RuntimeError):
        head(torch.zeros(1, 3, dtype=torch.bfloat16))
    assert head.weight is parameter


def test_the_chunked_loss_gives_a_trained_head_its_gradient() -> None:
    gradients = []
    for chunked in (False, True):
        model = attached("llama", torch.bfloat16, modules_to_save=["lm_head"]).train()
        head = model.get_base_model().lm_head.modules_to_save["default"].weight
        with torch.autocast("cpu", torch.bfloat16):
            if chunked:
                with verified_chunked_loss(model).active():
                    loss = model(input_ids=IDS, labels=IDS)["loss"]
            else:
                loss = model(input_ids=IDS, labels=IDS)["loss"]
        loss.backward()
        gradients.append(head.grad)
        assert head.dtype == torch.float32
    assert (gradients[0] - gradients[1]).norm() < 0.01 * gradients[0].norm()


@pytest.mark.parametrize(
    ("dtype", "keys"),
    [
        (torch.float32, {"modules_to_save": ["lm_head", "norm"]}),
        (torch.bfloat16, {}),
        (torch.bfloat16, {"use_dora": True}),
    ],
    ids=["fp32", "LoRA alone", "DoRA alone"],
)
def test_where_peft_casts_all_or_nothing_is_to_cast_no_module_is_touched(
    dtype: torch.dtype, keys: dict[str, Any]
) -> None:
    model = attached("llama", dtype, **keys)
    assert not [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]


# ------------------------------------------------------------------------------------------ quantized


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qwen2")
    made("qwen2", torch.float32).save_pretrained(path)
    return path


@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize("word", ["nf4", "int8"])
def test_biases_of_quantized_layers_train_in_fp32(word: Any, bias: Any, folder: Path) -> None:
    """bitsandbytes overwrites a bias with the dtype of the layer's input."""
    config = TrainingConfig(
        model_name=str(folder), quantization=word, precision="bf16", bias=bias, r=4, target_modules=["q_proj", "o_proj"]
    )
    base = load_model(config)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = base(input_ids=IDS).logits
    model = attach_adapter(base, config)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert (model(input_ids=IDS).logits - logits).norm() < 0.02 * logits.norm()
    found = train(model, torch.bfloat16)
    biases = [pair for name, pair in found.items() if name.endswith("q_proj.base_layer.bias")]
    assert len(biases) == 2
    for before, after in biases:
        assert after.dtype == torch.float32
        assert before.numel()
        assert (after != before).float().mean() > 0.99
