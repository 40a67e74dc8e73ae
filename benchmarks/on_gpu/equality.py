"""What is fast gives what the plain way gives, on this card: loss and gradients of a batch of rows of mixed length."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.on_gpu.card import Card
from benchmarks.on_gpu.outcome import LeftOutError, Outcome
from benchmarks.on_gpu.sizes import Sizes
from benchmarks.on_gpu.training import SEED, config_of, loaded, padded, precision_of, rows_of, saved_model

FP32_ERROR = 1e-4
"""Of a gradient's norm: sums in another order."""
NO_WORSE = 1.1
"""In bf16: the error against fp32, as a multiple of the plain way's own."""
Gradients = dict[str, Any]


def fused(card: Card, sizes: Sizes, _: Mapping[str, Outcome]) -> Outcome:
    """A LoRA layer as one function beside PEFT's own code."""
    from lora_backend.kernels.fused_lora import use_fused_lora

    model, batch = _model(card, sizes), padded(_rows(sizes))
    exact = _in_fp32(model, batch, card)
    plain = _gradients(model, batch, precision_of(card))
    said = str(use_fused_lora(model))
    found = _gradients(model, batch, precision_of(card))
    outcome = _judged(found, plain, exact, precision_of(card))
    outcome.words += f"; {said}"
    return outcome


def flat(card: Card, sizes: Sizes, _: Mapping[str, Outcome]) -> Outcome:
    """Rows in one line without padding beside rows that are padded."""
    from lora_backend.modeling.flat_model import flat_attention, why_not_flat
    from lora_backend.training.flat_batch import flat_batch

    model, rows = _model(card, sizes), _rows(sizes)
    if why := why_not_flat(model, precision_of(card)):
        raise LeftOutError(f"this model trains padded here: {why.text('en')}")
    batch = padded(rows)
    exact = _in_fp32(model, batch, card)
    plain = _gradients(model, batch, precision_of(card))
    with flat_attention(model):
        found = _gradients(model, flat_batch(rows), precision_of(card))
    return _judged(found, plain, exact, precision_of(card))


def split(card: Card, sizes: Sizes, _: Mapping[str, Outcome]) -> Outcome:
    """Blocks on two devices beside all of them on one; in fp32."""
    if len(card.devices) < 2:
        raise LeftOutError("there is one GPU only")
    import torch

    from lora_backend.modeling.adapter import attach_adapter
    from lora_backend.modeling.load import load_model

    config, batch = config_of(precision="fp32"), padded(_rows(sizes))
    blocks = sizes.small["num_hidden_layers"]
    first, second = (_place(device) for device in card.devices[:2])
    places = {f"model.layers.{index}": first if index < blocks // 2 else second for index in range(blocks)}
    ends = {"model.embed_tokens": first, "model.rotary_emb": first, "model.norm": second, "lm_head": second}
    with tempfile.TemporaryDirectory() as folder:
        path = saved_model(sizes.small, Path(folder))
        one = _with_values(loaded(path, config, card))
        named = config.model_copy(update={"model_name": path})
        torch.manual_seed(SEED)
        two = _with_values(attach_adapter(load_model(named, ends | places), config))
    plain, found = _gradients(one, batch, "fp32"), _gradients(two, batch, "fp32")
    return _judged(found, plain, plain, "fp32")


def _place(device: str) -> int | str:
    return int(device.partition(":")[2]) if device.startswith("cuda") else device


def _rows(sizes: Sizes) -> list[dict[str, list[int]]]:
    return rows_of(4, sizes.row_tokens, sizes.small["vocab_size"], mixed=True)


def _model(card: Card, sizes: Sizes) -> Any:
    config = config_of(precision=precision_of(card))
    with tempfile.TemporaryDirectory() as folder:
        return _with_values(loaded(saved_model(sizes.small, Path(folder)), config, card))


def _with_values(model: Any) -> Any:
    """Every B matrix, which begins as zeros and would leave A without a gradient, gets values."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            values = torch.randn(parameter.shape, generator=generator) * 0.02
            parameter.data.copy_(values)
    return model.train()


def _gradients(model: Any, batch: dict[str, Any], precision: str) -> Gradients:
    from lora_backend.modeling.label_count import labels_that_count
    from lora_backend.modeling.step import LossPath, micro_batch_step

    model.zero_grad(set_to_none=True)
    items = labels_that_count(model, [batch["labels"]])
    loss = micro_batch_step(model, batch, precision=precision, loss_path=LossPath.of(model), num_items=items)
    found = {
        name: one.grad.detach().float().cpu().clone() for name, one in model.named_parameters() if one.grad is not None
    }
    return {"loss": loss.float().cpu(), **found}


def _in_fp32(model: Any, batch: dict[str, Any], card: Card) -> Gradients:
    return _gradients(copy.deepcopy(model).float(), batch, "fp32") if precision_of(card) != "fp32" else {}


def _error(found: Gradients, wanted: Gradients) -> float:
    """Of all gradients together, as a share of their norm."""
    off = sum(float((found[name] - value).square().sum()) for name, value in wanted.items() if name != "loss")
    norm = sum(float(value.square().sum()) for name, value in wanted.items() if name != "loss")
    return float((off / max(norm, 1e-30)) ** 0.5)


def _judged(found: Gradients, plain: Gradients, exact: Gradients, precision: str) -> Outcome:
    assert found.keys() == plain.keys()
    losses = f"loss {float(found['loss']):.6f} and {float(plain['loss']):.6f}"
    if precision == "fp32":
        error = _error(found, plain)
        words = f"gradients are {error:.1e} of their norm apart ({FP32_ERROR:.0e} allowed), {losses}"
        return Outcome("holds" if error <= FP32_ERROR else "fails", words, figures={"error": error})
    own, others = _error(found, exact), _error(plain, exact)
    words = f"error against fp32 {own:.2e}, the plain way's {others:.2e} ({NO_WORSE} times that allowed), {losses}"
    figures = {"error": own, "plain_error": others}
    return Outcome("holds" if own <= NO_WORSE * others else "fails", words, figures=figures)
