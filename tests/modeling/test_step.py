"""One step for training and for the plan: what transformers' Trainer computes, to the bit, and what a trace records."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling import step
from lora_backend.modeling.label_count import labels_that_count
from lora_backend.modeling.loss import ChunkedLoss
from lora_backend.modeling.step import LossPath, computing_in, micro_batch_loss, micro_batch_step
from lora_backend.modeling.trace import trace_profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import TraceSettings
from tests.planning.profiles import LLAMA

CONFIG = LlamaConfig(
    vocab_size=40,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
RATE = 0.5


class Averaging(LlamaForCausalLM):
    """One of the models that take no count: each micro-batch is averaged for itself."""

    accepts_loss_kwargs = False

    def forward(self, *args: Any, num_items_in_batch: Any = None, **kwargs: Any) -> Any:
        assert num_items_in_batch is None
        return super().forward(*args, **kwargs)


def adapted(kind: type[LlamaForCausalLM]) -> Any:
    torch.manual_seed(0)
    return get_peft_model(
        kind(CONFIG), LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.1, init_lora_weights=False)
    )


def padded_batches() -> list[dict[str, torch.Tensor]]:
    """Three of unequal length, with padding and with questions that carry no label."""
    torch.manual_seed(1)
    made = []
    for tokens, padding, unlabelled in ((9, 2, 3), (13, 0, 5), (6, 3, 1)):
        ids = torch.randint(0, 40, (2, tokens))
        mask, labels = torch.ones_like(ids), ids.clone()
        mask[0, tokens - padding :] = 0
        labels[mask == 0] = -100
        labels[:, :unlabelled] = -100
        made.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return made


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}


@pytest.mark.parametrize("kind", [LlamaForCausalLM, Averaging])
def test_an_optimizer_step_is_that_of_transformers_trainer_to_the_bit(
    kind: type[LlamaForCausalLM], tmp_path: Path
) -> None:
    batches = padded_batches()

    class Given(Trainer):  # type: ignore[misc]  # transformers' classes are untyped
        def get_train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(batches, batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]  # they are made already

    model = adapted(kind)
    own = copy.deepcopy(model)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
        max_steps=1,
        use_cpu=True,
        max_grad_norm=0,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        label_names=["labels"],
        lr_scheduler_type="constant",
        learning_rate=RATE,
        remove_unused_columns=False,
    )
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=RATE)
    trainer = Given(model, arguments, train_dataset=[{}] * 6, optimizers=(optimizer, None))
    before = trained(own)
    torch.manual_seed(2)
    trainer.train()

    own.train()
    stepping = torch.optim.SGD([one for one in own.parameters() if one.requires_grad], lr=RATE)
    path = LossPath.of(own)
    num_items = labels_that_count(own, [batch["labels"] for batch in batches])
    torch.manual_seed(2)
    losses = [
        micro_batch_step(own, batch, precision="fp32", loss_path=path, num_items=num_items, passes=3)
        for batch in batches
    ]
    stepping.step()
    assert trainer.state.log_history[0]["loss"] == float(sum(losses))
    for name, wanted in trained(model).items():
        assert torch.equal(trained(own)[name], wanted), name
        assert not torch.equal(wanted, before[name]), name


def test_a_scaler_scales_gradients_and_not_what_is_told_of_the_loss() -> None:
    plain, scaled = adapted(LlamaForCausalLM).eval(), adapted(LlamaForCausalLM).eval()
    batch, path = padded_batches()[0], LossPath.of(plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # type: ignore[attr-defined]
    losses = [
        micro_batch_step(model, batch, precision="fp32", loss_path=path, num_items=7, scaler=one)
        for model, one in ((plain, None), (scaled, scaler))
    ]
    assert losses[0] == losses[1]
    for wanted, found in zip(plain.parameters(), scaled.parameters(), strict=True):
        if wanted.grad is not None:
            assert found.grad is not None
            assert torch.equal(found.grad, 1024 * wanted.grad)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_evaluation_has_the_loss_of_the_step(is_chunked: bool) -> None:
    model = adapted(LlamaForCausalLM).eval()
    path = LossPath.of(model, ChunkedLoss(model) if is_chunked else None)
    for precision in ("fp32", "bf16"):
        with torch.no_grad():
            alone = micro_batch_loss(model, padded_batches()[1], precision=precision, loss_path=path, num_items=9)
        loss = micro_batch_step(model, padded_batches()[1], precision=precision, loss_path=path, num_items=9)
        assert loss == pytest.approx(float(alone), rel=1e-6)


def test_half_precision_computes_under_autocast_and_nothing_of_it_stays() -> None:
    model = adapted(LlamaForCausalLM)
    seen: list[bool] = []
    model.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    for precision in ("fp32", "bf16"):
        micro_batch_step(model, padded_batches()[0], precision=precision, loss_path=LossPath.of(model), num_items=7)
    assert seen == [False, True]
    assert not torch.is_autocast_enabled("cpu")
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    with computing_in("fp16", torch.device("cpu")):
        assert torch.get_autocast_dtype("cpu") == torch.float16


def test_what_the_step_holds_is_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace runs this very function: whatever it makes beside the model is planned as well."""

    def with_more(model: nn.Module, batch: Any, **how: Any) -> torch.Tensor:
        return own(model, batch, **how) + 0 * torch.ones(batch["input_ids"].numel(), 10_000).sum()

    def behind_the_forward() -> float:
        profile = trace_profile(LLAMA, TrainingConfig(model_name="any"), TraceSettings(precision="fp32"))
        values = profile.monomials(Size(1, 500, 16))
        return max(float(peak @ values) for peak in profile.returns.peaks)

    own, usual = step.micro_batch_loss, behind_the_forward()
    monkeypatch.setattr(step, "micro_batch_loss", with_more)
    more = 4 * 500 * (10_000 - LLAMA["vocab_size"])  # by then the logits are gone
    assert behind_the_forward() - usual == pytest.approx(more, rel=0.001)
