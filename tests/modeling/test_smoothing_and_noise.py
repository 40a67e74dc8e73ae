"""Label smoothing is transformers' own, in tiles too; noise on embeddings counts an example's own tokens, and is drawn once."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.integrations.neftune import neftune_post_forward_hook
from transformers.trainer_pt_utils import LabelSmoother

from lora_backend.modeling.checkpointing import checkpoint_activations
from lora_backend.modeling.embedding_noise import embedding_noise
from lora_backend.modeling.flat_model import flat_attention
from lora_backend.modeling.label_count import labels_that_count
from lora_backend.modeling.step import LossPath, micro_batch_loss, micro_batch_step
from tests.modeling.families import CONFIGS, linear_endings

SMOOTHING = 0.3
TILE = 4 * 32 * 5
"""Bytes of a tile of five tokens, for a vocabulary of 32."""


def fresh(family: str = "llama", **lora: Any) -> PeftModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[family])
    keys = {"target_modules": linear_endings(model), **lora}
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False, **keys)).train()


def batch_of(*lengths: int) -> dict[str, Any]:
    """Rows of these lengths, padded; the first two tokens of each carry no label."""
    longest = max(lengths)
    mask = torch.tensor([[1] * length + [0] * (longest - length) for length in lengths])
    ids = torch.arange(mask.numel()).reshape(mask.shape) * 7 % 31
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :2] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def paths(model: PeftModel, **given: float) -> dict[str, LossPath]:
    """The loss from all logits, and in tiles of five tokens."""
    found = {word: LossPath.verified(model, word, "fp32", **given) for word in ("nll", "chunked_nll")}
    assert found["chunked_nll"].chunked
    found["chunked_nll"].chunked.tile_bytes = TILE
    return found


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def smoothed_by_transformers(model: PeftModel, batches: list[dict[str, Any]]) -> tuple[float, dict[str, torch.Tensor]]:
    """As Trainer does: the loss of each micro-batch by its smoother, divided by the labels of the whole step."""
    count = labels_that_count(model, [batch["labels"] for batch in batches])
    model.zero_grad()
    total = 0.0
    for batch in batches:
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        loss = LabelSmoother(SMOOTHING)(outputs, batch["labels"], shift_labels=True, num_items_in_batch=count)
        loss.backward()
        total += loss.item()
    return total, gradients(model)


@pytest.mark.parametrize("lora", [{}, {"modules_to_save": ["lm_head"]}])
@pytest.mark.parametrize("word", ["nll", "chunked_nll"])
def test_smoothed_labels_give_the_loss_and_gradients_of_transformers_under_accumulation(
    word: str, lora: dict[str, Any]
) -> None:
    model = fresh(**lora)
    batches = [batch_of(12, 9), batch_of(5, 4)]
    wanted_loss, wanted = smoothed_by_transformers(model, batches)
    count = labels_that_count(model, [batch["labels"] for batch in batches])
    path = paths(model, smoothing=SMOOTHING)[word]
    model.zero_grad()
    loss = sum(
        micro_batch_step(model, batch, precision="fp32", loss_path=path, num_items=count, passes=2).item()
        for batch in batches
    )
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    found = gradients(model)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        assert (gradient - wanted[name]).norm() <= 1e-5 * wanted[name].norm() + 1e-12, name


@pytest.mark.parametrize("word", ["nll", "chunked_nll"])
def test_smoothed_labels_of_a_flat_batch_are_those_of_its_rows(word: str) -> None:
    model, lengths = fresh(), (12, 9)
    padded = batch_of(*lengths)
    flat = {
        key: torch.cat([row[:length] for row, length in zip(padded[key], lengths, strict=True)])[None]
        for key in ("input_ids", "labels")
    }
    flat["position_ids"] = torch.cat([torch.arange(length) for length in lengths])[None]
    count, losses = labels_that_count(model, [padded["labels"]]), []
    path = paths(model, smoothing=SMOOTHING)[word]
    for batch in (padded, {**flat, "lengths": lengths}):
        with flat_attention(model) if "lengths" in batch else nullcontext():
            losses.append(micro_batch_loss(model, batch, precision="fp32", loss_path=path, num_items=count).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_smoothing_changes_the_loss_and_an_evaluation_is_smoothed_alike() -> None:
    """Trainer computes both by one function."""
    model, batch = fresh().eval(), batch_of(12, 9)
    count = labels_that_count(model, [batch["labels"]])
    with torch.no_grad():
        losses = {
            smoothing: [
                micro_batch_loss(model, batch, precision="fp32", loss_path=path, num_items=count).item()
                for path in paths(model, smoothing=smoothing).values()
            ]
            for smoothing in (0.0, SMOOTHING)
        }
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        wanted = LabelSmoother(SMOOTHING)(outputs, batch["labels"], shift_labels=True).item()
    assert losses[SMOOTHING] == pytest.approx([wanted, wanted], rel=1e-6)
    assert losses[0.0][0] != pytest.approx(wanted, rel=1e-3)


# ---------------------------------------------------------------------------------------------------- noise


def embeddings_of(model: PeftModel, batch: dict[str, Any], alpha: float | None, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    if alpha is None:
        return model.get_input_embeddings()(batch["input_ids"])
    with embedding_noise(model, batch, alpha):
        return model.get_input_embeddings()(batch["input_ids"])


def test_noise_on_rows_of_one_length_is_that_of_transformers() -> None:
    model, batch = fresh(), batch_of(7, 7)
    embedding = model.get_input_embeddings()
    embedding.neftune_noise_alpha = 5.0
    handle = embedding.register_forward_hook(neftune_post_forward_hook)
    torch.manual_seed(1)
    wanted = embedding(batch["input_ids"])
    handle.remove()
    assert torch.allclose(embeddings_of(model, batch, 5.0), wanted, atol=1e-6)
    assert not torch.allclose(embeddings_of(model, batch, None), wanted, atol=1e-3)


@pytest.mark.parametrize("is_flat", [False, True])
def test_each_example_is_disturbed_by_its_own_length(is_flat: bool) -> None:
    """Noise reaches α / √(L·d), and no further; with many numbers it comes near."""
    model, lengths, alpha, width = fresh(), (12, 3), 5.0, 16
    batch: dict[str, Any] = batch_of(*lengths)
    if is_flat:
        ids = torch.cat([row[:length] for row, length in zip(batch["input_ids"], lengths, strict=True)])[None]
        batch = {"input_ids": ids, "lengths": lengths}
    noise = (embeddings_of(model, batch, alpha) - embeddings_of(model, batch, None)).detach()
    rows = noise[0].split(lengths) if is_flat else [noise[0], noise[1, :3]]
    for row, length in zip(rows, lengths, strict=True):
        most = alpha / (length * width) ** 0.5
        assert 0.85 * most < row.abs().max() <= most * (1 + 1e-6)


def test_only_training_is_disturbed_and_the_model_is_left_as_it_was() -> None:
    model, batch = fresh(), batch_of(9, 6)
    count = labels_that_count(model, [batch["labels"]])

    def loss(alpha: float) -> float:
        torch.manual_seed(1)
        path = LossPath.of(model, noise_alpha=alpha)
        return float(micro_batch_loss(model, batch, precision="fp32", loss_path=path, num_items=count))

    assert loss(15.0) != pytest.approx(loss(0.0), rel=1e-4)
    assert not model.get_input_embeddings()._forward_hooks
    model.eval()
    assert loss(15.0) == loss(0.0)


@pytest.mark.parametrize("word", ["nll", "chunked_nll"])
def test_with_checkpointing_noise_is_drawn_once_and_is_the_same(word: str) -> None:
    results = []
    for is_checkpointed in (False, True):
        model, batch = fresh(), batch_of(9, 6)
        path = paths(model, noise_alpha=15.0)[word]
        if is_checkpointed:
            checkpoint_activations(model)
        torch.manual_seed(1)
        loss = micro_batch_step(model, batch, precision="fp32", loss_path=path, num_items=11)
        results.append((loss, gradients(model), torch.get_rng_state()))
    (loss, plain, state), (other, again, other_state) = results
    assert torch.allclose(loss, other, rtol=1e-6)
    assert torch.equal(state, other_state)
    assert all(torch.allclose(gradient, again[name], atol=1e-6) for name, gradient in plain.items())
