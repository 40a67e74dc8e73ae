"""The adapter as GGUF: what llama.cpp would add to its weights is what PEFT adds, family by family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from lora_backend.preflight.export_place import is_export
from tests.shipping.shipped import good, made_adapter, proof, refused, saved_base

SMALL: dict[str, Any] = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
FAMILIES: dict[str, tuple[Any, str]] = {
    "llama": (LlamaConfig(**SMALL), "llama"),
    "mistral": (MistralConfig(**SMALL, head_dim=8), "llama"),
    "qwen2": (Qwen2Config(**SMALL), "qwen2"),
    "qwen3": (Qwen3Config(**SMALL, head_dim=8), "qwen3"),
    "gemma": (GemmaConfig(**SMALL, head_dim=8), "gemma"),
    "gemma2": (Gemma2Config(**SMALL, head_dim=8), "gemma2"),
    "gemma3": (Gemma3TextConfig(**SMALL, head_dim=8), "gemma3"),
}
NAMES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
    "up_proj": "ffn_up", "down_proj": "ffn_down",
}  # fmt: skip
TURNED = {"llama", "mistral"}


@pytest.fixture(autouse=True)
def _places(workspace: Path) -> None:
    pass


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    return fields, {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}


def update_of(fields: dict[str, Any], tensors: dict[str, np.ndarray[Any, Any]], name: str) -> np.ndarray[Any, Any]:
    """What llama.cpp adds to the weight `name`: alpha / rank · B·A (`llama_adapter_lora_weight::get_scale`)."""
    a, b = tensors[f"{name}.weight.lora_a"], tensors[f"{name}.weight.lora_b"]
    found: np.ndarray[Any, Any] = fields["adapter.lora.alpha"] / b.shape[1] * (b @ a)
    return found


def as_llama_cpp_has_it(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Row by row: of each head, row i of the first half goes to 2i, row i of the second to 2i + 1."""
    turned, size = np.empty_like(weight), weight.shape[0] // heads
    for head in range(heads):
        for half in range(2):
            for row in range(size // 2):
                turned[head * size + 2 * row + half] = weight[head * size + half * (size // 2) + row]
    return turned


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 3, "layers.1.self_attn.k_proj": 5}}], ids=["plain", "patterns"])  # fmt: skip
def test_llama_cpp_adds_what_peft_adds(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    config, architecture = FAMILIES[family]
    model = made_adapter(tmp_path / "a", saved_base(tmp_path / "base", config), **settings)
    result = good(tmp_path / "a", "gguf", tmp_path / "out" / "a.gguf", overwrite=False)
    assert proof(result, "read_back") == (True, "28 tensors read back, identical bit for bit.")
    fields, tensors = read(tmp_path / "out" / "a.gguf")
    assert (fields["general.type"], fields["general.architecture"], fields["adapter.type"]) == ("adapter", architecture, "lora")  # fmt: skip
    assert len(tensors) == 2 * 7 * 2
    for module, name in NAMES.items():
        for block in range(2):
            path = next(path for path, _ in model.named_modules() if path.endswith(f"layers.{block}.{'self_attn' if 'attn' in name else 'mlp'}.{module}"))  # fmt: skip
            expected = model.get_submodule(path).get_delta_weight("default").detach().numpy()
            if family in TURNED and module in ("q_proj", "k_proj"):
                expected = as_llama_cpp_has_it(expected, 4 if module == "q_proj" else 2)
            found = update_of(fields, tensors, f"blk.{block}.{name}")
            np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


def test_embedding_and_head_of_an_untied_model(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", LlamaConfig(**SMALL, tie_word_embeddings=False))
    model = made_adapter(tmp_path / "a", base, target_modules=["embed_tokens", "lm_head"])
    good(tmp_path / "a", "gguf", tmp_path / "a.gguf")
    fields, tensors = read(tmp_path / "a.gguf")
    a, b = tensors["token_embd.weight.lora_a"], tensors["token_embd.weight.lora_b"]
    assert (a.shape, b.shape) == ((32, 4), (16, 4)), "rows of A are looked up by token"
    embedding = model.get_submodule("base_model.model.model.embed_tokens").get_delta_weight("default")
    np.testing.assert_allclose(2.0 * a @ b.T, embedding.detach().numpy(), rtol=2e-6, atol=1e-7)
    head = model.get_submodule("base_model.model.lm_head").get_delta_weight("default").detach().numpy()
    np.testing.assert_allclose(update_of(fields, tensors, "output"), head, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(("dtype", "kind", "torch_dtype"), [("fp32", "F32", torch.float32), ("fp16", "F16", torch.float16), ("bf16", "BF16", torch.bfloat16)])  # fmt: skip
def test_the_type_that_was_asked_for(dtype: Any, kind: str, torch_dtype: torch.dtype, tmp_path: Path) -> None:
    made_adapter(tmp_path / "a", saved_base(tmp_path / "base", FAMILIES["qwen2"][0]))
    assert good(tmp_path / "a", "gguf", tmp_path / "a.gguf", dtype=dtype).is_proved
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert {tensor.tensor_type.name for tensor in reader.tensors} == {kind}
    theirs = load_file(tmp_path / "a" / "adapter_model.safetensors")["base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight"]  # fmt: skip
    _, tensors = read(tmp_path / "a.gguf")
    np.testing.assert_array_equal(tensors["blk.0.attn_v.weight.lora_a"], theirs.to(torch_dtype).float().numpy())


def test_values_that_a_type_cannot_hold_are_refused(tmp_path: Path) -> None:
    made_adapter(tmp_path / "a", saved_base(tmp_path / "base", FAMILIES["qwen2"][0]))
    file = tmp_path / "a" / "adapter_model.safetensors"
    save_file({name: tensor * 1e7 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    assert "cannot hold" in refused(tmp_path / "a", "gguf", tmp_path / "a.gguf", dtype="fp16")
    assert not (tmp_path / "a.gguf").exists()


def test_a_file_that_was_changed_is_not_proved(tmp_path: Path) -> None:
    from lora_backend.shipping.gguf_adapter import proof_of_reading
    from lora_backend.shipping.gguf_layers import plan_gguf

    base = saved_base(tmp_path / "base", FAMILIES["llama"][0])
    made_adapter(tmp_path / "a", base)
    good(tmp_path / "a", "gguf", tmp_path / "a.gguf")
    data = bytearray((tmp_path / "a.gguf").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a.gguf").write_bytes(data)
    found = proof_of_reading(tmp_path / "a.gguf", tmp_path / "a", plan_gguf(tmp_path / "a", base), None)
    assert found.passed is False
    assert found.message.text("en").startswith("1 tensor or field is not as it was written, first ")


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "family": (GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2), {"fan_in_fan_out": True}, "A gpt2 adapter cannot be written as GGUF"),
    "DoRA": (FAMILIES["llama"][0], {"use_dora": True}, "DoRA"),
    "modules_to_save": (FAMILIES["llama"][0], {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, "`modules_to_save`"),
    "biases": (FAMILIES["qwen2"][0], {"target_modules": ["q_proj"], "bias": "lora_only"}, "biases"),
    "lora_bias": (FAMILIES["qwen2"][0], {"target_modules": ["q_proj"], "lora_bias": True}, "`lora_bias`"),
    "pissa": (FAMILIES["llama"][0], {"init_lora_weights": "pissa"}, "`init_lora_weights: pissa`"),
    "tied head": (LlamaConfig(**SMALL, tie_word_embeddings=True), {"target_modules": ["embed_tokens"]}, "share their weights"),
    "tied by default": (FAMILIES["gemma"][0], {"target_modules": ["embed_tokens", "q_proj"]}, "share their weights"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_llama_cpp_cannot_read_is_refused_by_name(what: str, tmp_path: Path) -> None:
    config, settings, said = REFUSED[what]
    made_adapter(tmp_path / "a", saved_base(tmp_path / "base", config), **settings)
    assert said in refused(tmp_path / "a", "gguf", tmp_path / "out" / "a.gguf")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_commands_are_there_and_said_not_to_be_run(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base model", FAMILIES["llama"][0])
    made_adapter(tmp_path / "a", base)
    result = good(tmp_path / "a", "gguf", tmp_path / "it's.gguf")
    assert [note.text("en") for note in result.notes] == ["The commands for llama.cpp and Ollama were not run here."]
    convert, run, ollama = result.commands
    assert f"'{base}'" in convert
    assert "--lora 'it'\"'\"'s.gguf'" in run
    assert "ADAPTER ./it" in ollama
    assert is_export(tmp_path / "it's.gguf")
