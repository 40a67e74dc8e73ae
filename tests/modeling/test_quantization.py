"""A base model in 4 or 8 bits, for real, on bitsandbytes' CPU backend: smaller, trainable, and never by halves."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from peft import PeftModel
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, ModelError
from lora_backend.modeling import quantization
from lora_backend.modeling.build import getEquipAdaptorModel
from lora_backend.modeling.load import load_model
from lora_backend.modeling.quantization import quantized_layers, scale_bytes
from tests.often import often
from tests.run_files import points_of
from tests.tiny import make_model
from tests.training.helpers import run

Make = Callable[..., dict[str, Any]]
LINEAR = 7 * 2
"""Linear layers in the two blocks of the model below."""
TABLES_BYTES = 4 * 256 + 4 * 16 + 4
"""Of one matrix in nf4 with double quantization: code of the scales, code of the weights, their offset."""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with layers wide enough for bitsandbytes' blocks of 64 weights, and of 256 scales."""
    folder = make_model(tmp_path_factory.mktemp("wide") / "model")
    torch.manual_seed(0)
    old = LlamaConfig.from_pretrained(folder)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, "max_position_embeddings": 128}
    LlamaForCausalLM(LlamaConfig(vocab_size=old.vocab_size, num_hidden_layers=2, **sizes, **special)).save_pretrained(
        folder
    )
    return folder


@pytest.fixture
def wide(config: Make, model_folder: Path) -> Make:
    """A good config for that model."""

    def make(**changes: Any) -> dict[str, Any]:
        return config(**{"model_name": str(model_folder)} | changes)

    return make


def load(make: Make, **changes: Any) -> Any:
    return load_model(TrainingConfig(**make(**changes)))


def stored_bytes(layer: Any) -> int:
    return int(layer.weight.numel() * layer.weight.element_size() + scale_bytes(layer))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("word", "kind"), [("nf4", "Linear4bit"), ("int8", "Linear8bitLt")])
def test_linear_layers_are_quantized_and_all_else_keeps_its_precision(
    word: str, kind: str, precision: str, wide: Make
) -> None:
    model = load(wide, quantization=word, precision=precision)
    assert [type(layer).__name__ for layer in quantized_layers(model)] == [kind] * LINEAR
    whole = {p.dtype for p in model.parameters() if p.is_floating_point()}
    assert whole == {{"fp32": torch.float32, "bf16": torch.bfloat16}[precision]}
    assert model.lm_head.weight.is_floating_point()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_weight_takes_the_bytes_that_its_format_says(precision: str, wide: Make) -> None:
    for layer in quantized_layers(load(wide, quantization="nf4", precision=precision)):
        weights = layer.in_features * layer.out_features
        assert stored_bytes(layer) == weights / 2 + weights / 64 + 4 * weights / (64 * 256) + TABLES_BYTES
        assert layer.compute_dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = load(wide, quantization="int8", precision=precision)
    for _ in range(2):  # the scales move with the first forward
        for layer in quantized_layers(model):
            assert stored_bytes(layer) == layer.in_features * layer.out_features + 4 * layer.out_features
        model(torch.tensor([[4, 5, 6]]))


@pytest.mark.parametrize(("word", "error"), [("nf4", 0.3), ("int8", 0.03)])
def test_it_computes_nearly_what_the_whole_model_computes(word: str, error: float, wide: Make) -> None:
    ids = torch.arange(4, 20)[None]
    whole = load(wide)(ids).logits
    assert 0 < (load(wide, quantization=word)(ids).logits - whole).norm() < error * whole.norm()


@pytest.mark.parametrize(
    ("word", "precision"),
    often([("nf4", "fp32"), ("nf4", "bf16"), ("int8", "bf16")], {("nf4", "bf16"), ("int8", "bf16")}),
)
def test_a_run_trains_saves_and_its_adapter_loads_back(word: str, precision: str, wide: Make, workspace: Path) -> None:
    values = wide(
        quantization=word,
        precision=precision,
        max_steps=3,
        learning_rate=1e-3,
        strict_r_check=True,
        val_size=0.25,
        eval_strategy="steps",
        eval_steps=1,
        gradient_checkpointing=True,
        loss_type="chunked_nll",
    )
    folder = run(workspace, values)
    assert folder.state().state == "finished"
    report = folder.read_rank_report()
    assert report is not None
    assert (report.status, report.saved and report.saved.status) == ("ok", "ok")
    assert len(report.actual_r_values) == LINEAR
    trained = PeftModel.from_pretrained(load(wide, quantization=word, precision=precision), str(folder.adapter))
    for name, parameter in trained.named_parameters():
        assert "lora_B" not in name or parameter.abs().sum() > 0, name
    evaluated = [row["eval_loss"] for row in points_of(folder) if "eval_loss" in row]
    assert evaluated[2] < evaluated[1] < evaluated[0], "an evaluation does not end what trains"
    ids = torch.arange(4, 20)[None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        learned = trained(input_ids=ids).logits
        with trained.disable_adapter():
            assert not torch.allclose(trained(input_ids=ids).logits, learned)


@pytest.mark.parametrize(
    "lora", [{}, {"use_dora": True}, {"init_lora_weights": "olora"}, {"modules_to_save": ["lm_head"]}]
)
@pytest.mark.parametrize("word", ["nf4", "int8"])
def test_every_trained_part_gets_a_gradient(word: str, lora: dict[str, Any], wide: Make) -> None:
    model = getEquipAdaptorModel(wide(quantization=word, **lora)).train()
    ids = torch.arange(4, 20)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) >= 2 * LINEAR
    assert [name for name, p in trained.items() if p.grad is None] == []


def test_an_evaluation_leaves_weights_in_the_layout_that_trains(wide: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU with bf16 instructions bitsandbytes would repack them at the first one."""
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    model = load(wide, quantization="nf4").eval()
    with torch.no_grad():
        model(torch.tensor([[4, 5, 6]]))
    assert not any(
        getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in quantized_layers(model)
    )


def test_the_log_says_how_much_is_quantized_and_what_it_weighs(wide: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lora_backend"):
        load(wide, quantization="nf4")
    assert "quantization nf4: 14 layers, 99.8 % of the weights in blocks" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_experts_that_stay_whole_are_warned_of(config: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2}
    MixtralForCausalLM(MixtralConfig(vocab_size=64, num_hidden_layers=1, num_local_experts=4, **sizes)).save_pretrained(
        tmp_path / "m"
    )
    load(config, model_name=str(tmp_path / "m"), quantization="nf4")
    assert [record.levelname for record in caplog.records if "quantization nf4" in record.message] == ["WARNING"]


# ------------------------------------------------------------------------------------------ refusals


def test_without_bitsandbytes_it_says_what_to_install(wide: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        load(wide, quantization="nf4")
    assert load(wide).lm_head.weight.is_floating_point()


def test_a_bitsandbytes_without_this_device_is_named(wide: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitsandbytes, "supported_torch_devices", {"npu"})
    with pytest.raises(ModelError, match="does not work on"):
        load(wide, quantization="int8")


def test_a_model_that_comes_quantized_is_not_quantized_again(wide: Make, tmp_path: Path) -> None:
    load(wide, quantization="nf4").save_pretrained(tmp_path / "m")
    assert "quantization_config" in json.loads((tmp_path / "m" / "config.json").read_text())
    with pytest.raises(ModelError, match="quantized already"):
        load(wide, model_name=str(tmp_path / "m"), quantization="int8")
    assert len(quantized_layers(load(wide, model_name=str(tmp_path / "m")))) == LINEAR


def test_a_model_that_no_layer_of_can_be_quantized_is_refused(wide: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "quantized_layers", lambda model: [])
    with pytest.raises(ModelError, match="No layer"):
        load(wide, quantization="nf4")


@pytest.mark.parametrize(
    "changes", [{"init_lora_weights": "pissa"}, {"init_lora_weights": "orthogonal"}, {"modules_to_save": ["q_proj"]}]
)
def test_what_peft_cannot_do_with_quantized_weights_is_an_error_of_the_config(
    changes: dict[str, Any], wide: Make
) -> None:
    getEquipAdaptorModel(wide(**changes, target_modules=["v_proj"]))
    with pytest.raises(ConfigError, match="quantiz"):
        getEquipAdaptorModel(wide(**changes, target_modules=["v_proj"], quantization="nf4"))


def test_weights_stored_the_other_way_round_are_quantized_too(config: Make, tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=64, n_layer=1, n_head=2, n_positions=32)).save_pretrained(
        tmp_path / "m"
    )
    ids = torch.arange(16)[None]
    whole = load(config, model_name=str(tmp_path / "m")).eval()(ids).logits
    model = load(config, model_name=str(tmp_path / "m"), quantization="int8").eval()
    assert len(quantized_layers(model)) == 4
    assert (model(ids).logits - whole).norm() < 0.05 * whole.norm()
