"""torch.compile on parts of blocks: the same numbers, the same bits again, and words where it cannot be."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lora_backend.errors import ConfigError
from lora_backend.kernels.fused_lora import use_fused_lora
from lora_backend.modeling import compiled_parts
from lora_backend.modeling.checkpointing import checkpoint_activations
from lora_backend.modeling.compiled_parts import compile_parts, parts_of, put_off_compiled
from lora_backend.modeling.step import LossPath, micro_batch_step

CONFIG = LlamaConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64,
)  # fmt: skip


def adapted() -> Any:
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(LlamaForCausalLM(CONFIG), lora)
    use_fused_lora(model)
    return model.train()


def of_step(model: Any, rows: int, tokens: int, precision: str = "fp32") -> dict[str, torch.Tensor]:
    """Loss and gradients."""
    ids = torch.randint(0, 40, (rows, tokens), generator=torch.Generator().manual_seed(tokens))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    model.zero_grad(set_to_none=True)
    loss = micro_batch_step(model, batch, precision=precision, loss_path=LossPath.of(model), num_items=ids.numel())
    return {"loss": loss, **{name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}}


# The next test compiles without it.
@pytest.mark.parametrize("is_checkpointed", [pytest.param(False, marks=pytest.mark.soak), True])
def test_compiled_parts_give_the_same_step_at_any_size(is_checkpointed: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sizes = [(1, 9), (3, 7), (1, 23)]
    model = adapted()
    if is_checkpointed:
        checkpoint_activations(model)
    wanted = [of_step(model, *size) for size in sizes]
    names = list(model.state_dict())
    compile_parts(model, "fp32")
    assert "6 of 6 parts compiled in" in caplog.text
    assert "the first step begins up to a minute later" in caplog.text
    assert list(model.state_dict()) == names
    for size, plain in zip(sizes, wanted, strict=True):
        found, again = of_step(model, *size), of_step(model, *size)
        assert found.keys() == plain.keys()
        for name, value in plain.items():
            assert (found[name] - value).norm() <= 2e-5 * value.norm() + 1e-12, name
            assert torch.equal(found[name], again[name]), name
    put_off_compiled(model)
    assert all("forward" not in vars(part) for part in parts_of(model))
    assert torch.equal(of_step(model, 1, 9)["loss"], wanted[0]["loss"])


def test_in_bf16_it_errs_no_more_than_what_is_not_compiled() -> None:
    """Against fp32, as ‖error‖ over all gradients of one step."""
    sizes, model = [(1, 9), (2, 16), (3, 7), (1, 40)], adapted()
    exact = [of_step(model, *size) for size in sizes]

    def error() -> float:
        found = [of_step(model, *size, precision="bf16") for size in sizes]
        pairs = zip(found, exact, strict=True)
        return sum(float((one[name] - value).square().sum()) for one, wanted in pairs for name, value in wanted.items())

    plain = error()
    compile_parts(model, "bf16")
    assert error() <= 1.1**2 * plain


def test_what_torch_cannot_compile_computes_without_it_in_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = adapted()
    wanted = of_step(model, 1, 9)

    def broken(plain: Any, **_: Any) -> Any:
        def call(*args: Any) -> Any:
            if plain.__self__.__class__.__name__ == "LlamaMLP":
                raise RuntimeError("no such kernel\nand more")
            return plain(*args)

        return call

    monkeypatch.setattr(torch, "compile", broken)
    compile_parts(model, "fp32")
    assert "4 of 6 parts compiled" in caplog.text
    assert "2 parts compute without it: no such kernel" in caplog.text
    assert torch.equal(of_step(model, 1, 9)["loss"], wanted["loss"])


def test_a_model_without_such_parts_goes_on_without(caplog: pytest.LogCaptureFixture) -> None:
    class Bare(nn.Module):
        config = CONFIG

        def get_input_embeddings(self) -> None:
            return None

    compile_parts(Bare(), "fp32")
    assert "the run goes on without it" in caplog.text


def test_a_machine_without_a_compiler_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_parts, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(ConfigError, match=r"Install g\+\+, or set `torch_compile: false`"):
        compile_parts(adapted(), "fp32")
