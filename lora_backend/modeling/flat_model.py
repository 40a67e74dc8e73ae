"""A model that takes a batch's rows one behind the other, without padding, and gives what it gives for padded ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from lora_backend.errors import FlightdeckError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.kernels.flat_attention import FLAT
from lora_backend.kernels.flat_inputs import flat_inputs
from lora_backend.modeling.flat_structure import causal_model, is_flash, why_not_flat_by_structure
from lora_backend.modeling.step import computing_in, inputs_device

TRIED_LENGTHS = (6, 1, 9, 4)
"""Tokens of the examples that are tried."""
SAME = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.02}
"""‖difference‖ / ‖logits‖ of the middle token of an example, up to which two ways to the same logits count as one."""
UNTOUCHED = 0.02
"""How much of what another token changes in its own example may change in others: what sums in another order make of it."""


def why_not_flat(model: nn.Module, precision: str, attention: str | None = None) -> Message | None:
    """Why the batches of `model` are padded, or None where it takes rows without padding.

    By its structure first. Then it is tried on a few examples: they must have the logits that they have padded, and none
    may notice another token in a neighbour. A model without values is not tried. `attention`: the config's `attn_implementation`.
    """
    device = inputs_device(model)
    reason = why_not_flat_by_structure(model, precision, attention, device.type)
    if reason is not None or not _has_values(model):
        return reason
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), computing_in(precision, device):
            return _tried(model, precision, device)
    finally:
        model.train(was_training)


@contextmanager
def flat_attention(model: nn.Module) -> Iterator[None]:
    """Within the block the model computes flat batches, and refuses others; after it, what it computed before."""
    base: Any = causal_model(model)
    before = _implementations(base.config)
    if is_flash(base.config.get_text_config(decoder=True)._attn_implementation):
        yield  # transformers tells it where the rows end
        return
    base.set_attn_implementation(FLAT)
    try:
        yield
    finally:
        base.set_attn_implementation(before)


def own_attention(model: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """Asked for before `flat_attention` begins: a context in which the model computes as it does now, within that one."""
    base: Any = causal_model(model)
    own = _implementations(base.config)

    @contextmanager
    def as_now() -> Iterator[None]:
        within = _implementations(base.config)
        if within == own:
            yield
            return
        base.set_attn_implementation(own)
        try:
            yield
        finally:
            base.set_attn_implementation(within)

    return as_now


def _implementations(config: Any) -> dict[str, Any]:
    """The attention of a config and those in it, as `set_attn_implementation` takes it."""
    parts = {name: getattr(config, name, None) for name in config.sub_configs}
    return {"": config._attn_implementation} | {
        name: _implementations(part) for name, part in parts.items() if part is not None
    }


def _has_values(model: nn.Module) -> bool:
    return not any(parameter.is_meta or isinstance(parameter, FakeTensor) for parameter in model.parameters())


def _tried(model: nn.Module, precision: str, device: torch.device) -> Message | None:
    family = {"family": causal_model(model).config.get_text_config(decoder=True).model_type}  # type: ignore[union-attr]
    ids = _token_ids(model, device)
    padded = _padded_logits(model, ids)
    try:
        with flat_attention(model):
            flat = _flat_logits(model, ids)
            changed = _flat_logits(model, [*ids[:-2], (ids[-2] + 1) % _vocabulary(model), ids[-1]])
    except FlightdeckError as error:
        return error.message
    except (AttributeError, KeyError, TypeError, IndexError, RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return Message(
            N_("{family} does not take rows without padding: {reason}"), family | {"reason": first_line(error)}
        )
    own = _difference(changed[-2], flat[-2])
    others = [_difference(now, before) for index, (now, before) in enumerate(zip(changed, flat, strict=True)) if index != len(ids) - 2]  # fmt: skip
    if max(others) > UNTOUCHED * own:
        return Message(N_("Rows of {family} without padding see each other."), family)
    if any(_difference(one, other) > SAME[precision] for one, other in zip(flat, padded, strict=True)):
        return Message(N_("{family} computes something else for rows without padding than for padded ones."), family)
    return None


def _token_ids(model: nn.Module, device: torch.device) -> list[torch.Tensor]:
    """Different tokens from all over the vocabulary, the same at every start."""
    numbers = torch.randint(0, _vocabulary(model), (sum(TRIED_LENGTHS),), generator=torch.Generator().manual_seed(0))
    return list(numbers.to(device).split(TRIED_LENGTHS))


def _vocabulary(model: nn.Module) -> int:
    return int(causal_model(model).config.get_text_config(decoder=True).vocab_size)  # type: ignore[union-attr, operator]


def _padded_logits(model: nn.Module, ids: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of each example, tokens × vocabulary, in fp32."""
    rows = nn.utils.rnn.pad_sequence(ids, batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
    logits = model(input_ids=rows, attention_mask=mask, use_cache=False)["logits"].float()
    return [row[: len(one)] for row, one in zip(logits, ids, strict=True)]


def _flat_logits(model: nn.Module, ids: list[torch.Tensor]) -> list[torch.Tensor]:
    lengths = tuple(len(one) for one in ids)
    positions = torch.cat([torch.arange(length, device=ids[0].device) for length in lengths])
    batch = {"input_ids": torch.cat(ids)[None], "position_ids": positions[None], "lengths": lengths}
    logits = model(**flat_inputs(batch), use_cache=False)["logits"].float()
    return list(logits[0].split(lengths))


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of the middle token: a near tie between experts may fall either way in some."""
    return float(((one - other).norm(dim=-1) / other.norm(dim=-1)).median())
