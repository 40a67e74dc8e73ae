"""What one model costs, per module and block, independent of devices: plain data that a trace fills in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from lora_backend.i18n import Message
from lora_backend.planning.cost.scaling import EXPONENTS, Size, Vector, monomials
from lora_backend.planning.cost.trace_settings import TraceSettings

VERSION = 13
"""Of the figures: profiles of another version are traced anew. Those before 13 are of padded rows, PEFT's own LoRA and
logits of all tokens."""


@dataclass(frozen=True)
class Part:
    """A stretch of a training step; every vector has a coefficient per monomial of `scaling.EXPONENTS`."""

    peaks: tuple[Vector, ...]
    """The largest of these, at a size, is the peak in bytes above what was there when the stretch began."""
    delta: Vector
    """Bytes that are there at its end and were not at its beginning (negative: let go)."""
    flops: Vector

    def to_json(self) -> dict[str, Any]:
        return {
            "peaks": [peak.tolist() for peak in self.peaks],
            "delta": self.delta.tolist(),
            "flops": self.flops.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Part:
        return cls(tuple(np.array(peak) for peak in data["peaks"]), np.array(data["delta"]), np.array(data["flops"]))


NOTHING = Part((), np.zeros(len(EXPONENTS)), np.zeros(len(EXPONENTS)))


class TrainedTensors(NamedTuple):
    """Trained tensors of one size."""

    fixed: int
    """Parameters of each that do not depend on `r`."""
    per_rank: int = 0
    """Parameters of each for each unit of `r`."""
    num_tensors: int = 1
    is_embedding: bool = False
    """Whether they are tables of embeddings, of which optimizers of 8 bits keep states in 32."""
    sides: int = 0
    """Rows and columns of each matrix that do not depend on `r`; 0 where they are no matrices."""
    sides_per_rank: int = 0

    def sides_at(self, rank: int) -> int:
        """Rows and columns of each at `r` = rank."""
        return self.sides + self.sides_per_rank * rank

    def size(self, rank: int) -> int:
        """Parameters of each at `r` = rank."""
        return self.fixed + self.per_rank * rank


@dataclass(frozen=True)
class Unit:
    """What is placed as one: a block, all before the blocks, or all behind them."""

    parameters: int
    """Of the base model."""
    weights_bytes: int
    """Parameters and buffers of the base model, as they lie in memory."""
    trained: tuple[TrainedTensors, ...] = ()
    forward: Part = NOTHING
    backward: Part = NOTHING
    side_inputs: Vector = field(default_factory=lambda: np.zeros(len(EXPONENTS)))
    """Bytes of a block's inputs beside the hidden states (mask, rotary angles): copied to each block on another device."""
    released: Vector = field(default_factory=lambda: np.zeros(len(EXPONENTS)))
    """Of what a block's forward pass keeps, bytes that are let go when all blocks are done (autocast's copies)."""

    def trainable(self, rank: int) -> int:
        """Trained parameters at `r` = rank."""
        return sum(tensors.size(rank) * tensors.num_tensors for tensors in self.trained)

    def to_json(self) -> dict[str, Any]:
        return {
            "parameters": self.parameters,
            "weights_bytes": self.weights_bytes,
            "trained": [list(tensors) for tensors in self.trained],
            "forward": self.forward.to_json(),
            "backward": self.backward.to_json(),
            "side_inputs": self.side_inputs.tolist(),
            "released": self.released.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Unit:
        return cls(
            data["parameters"],
            data["weights_bytes"],
            tuple(TrainedTensors(*tensors) for tensors in data["trained"]),
            Part.from_json(data["forward"]),
            Part.from_json(data["backward"]),
            np.array(data["side_inputs"]),
            np.array(data["released"]),
        )


REASONS = ("why_padded", "why_padded_on_gpu")


@dataclass(frozen=True)
class Taken:
    """How a step is really taken, where its settings leave that to the model."""

    batching: Literal["flat", "padded"] = "padded"
    loss_type: Literal["nll", "chunked_nll"] = "nll"
    why_padded: Message | None = None
    """Where the rows are padded although the settings ask for a flat batch."""
    why_padded_on_gpu: Message | None = None
    """Why they must be on a GPU, whose kernels are others, although the settings ask for a flat batch."""

    def step_of(self, settings: TraceSettings) -> TraceSettings:
        """The settings of the step that is taken where these are asked for."""
        taken = replace(settings, batching=self.batching, loss_type=self.loss_type)
        return taken if self.loss_type == "chunked_nll" else replace(taken, is_tiled=False, labelled=1.0)

    def to_json(self) -> dict[str, Any]:
        why = {name: getattr(self, name) for name in REASONS}
        stored = {name: None if reason is None else reason.to_json() for name, reason in why.items()}
        return {"batching": self.batching, "loss_type": self.loss_type, **stored}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Taken:
        why = {name: None if data[name] is None else Message.from_json(data[name]) for name in REASONS}
        return cls(data["batching"], data["loss_type"], **why)


@dataclass(frozen=True)
class Profile:
    """One model under one set of `TraceSettings`."""

    settings: TraceSettings
    taken: Taken
    method: Literal["traced", "traced_whole", "formula"]
    """`traced`: a block of each kind; `traced_whole`: every block; `formula`: counts by the model, activations by formula."""
    expected_error: float
    """Of the peak, as a share: what the figures of this method were off by at most where both could be had."""
    model_type: str
    max_positions: int | None
    windows: tuple[int, ...]
    """Lengths of the model's attention windows, in tokens."""
    tile_tokens: int
    """Tokens in a tile of the chunked loss."""
    is_tied: bool
    """Whether head and embedding are one tensor; they then live on one device."""
    blocks_path: str
    """`model.layers`: block i is the module `model.layers.i`."""
    embed_modules: tuple[str, ...]
    """Modules that live with the embedding, by name."""
    head_modules: tuple[str, ...]
    embed: Unit
    kinds: tuple[Unit, ...]
    kind_of_block: tuple[int, ...]
    """Per block, its index in `kinds`."""
    head: Unit
    returns: Part
    """From the end of the model's forward to the beginning of the backward pass, on the head's device."""
    hidden: Vector
    """Bytes of the hidden states between two blocks."""
    token_multiple: int = 1
    """Tokens in a chunk of the model's scans, which pad each row to whole ones (1: it has none)."""
    walks_rest: bool = False
    """Whether the tokens behind a row's last whole chunk go one by one instead."""

    def serves(self, settings: TraceSettings) -> bool:
        """Whether it is what a trace with these settings would find: a flat step is the same for one row and for several."""
        if self.taken.batching == "flat":
            return replace(settings, uneven=self.settings.uneven) == self.settings
        return settings == self.settings

    @property
    def num_units(self) -> int:
        """What is placed as a whole: embedding, blocks, and the head, which is one with the embedding where they are tied."""
        return len(self.kind_of_block) + (1 if self.is_tied else 2)

    @property
    def parameters(self) -> int:
        """Of the whole base model, tied ones once."""
        return self.embed.parameters + self.head.parameters + sum(self.kinds[k].parameters for k in self.kind_of_block)

    def monomials(self, size: Size) -> Vector:
        """What the coefficients of every vector are multiplied by at a size."""
        return monomials(size, self.token_multiple, walks_rest=self.walks_rest)

    def trainable(self, rank: int) -> int:
        """Trained parameters of the whole model at `r` = rank."""
        units = [self.embed, self.head, *(self.kinds[kind] for kind in self.kind_of_block)]
        return sum(unit.trainable(rank) for unit in units)

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` gives the profile back."""
        return {
            "version": VERSION,
            "settings": self.settings.to_json(),
            "taken": self.taken.to_json(),
            "method": self.method,
            "expected_error": self.expected_error,
            "model_type": self.model_type,
            "max_positions": self.max_positions,
            "windows": list(self.windows),
            "tile_tokens": self.tile_tokens,
            "is_tied": self.is_tied,
            "blocks_path": self.blocks_path,
            "embed_modules": list(self.embed_modules),
            "head_modules": list(self.head_modules),
            "embed": self.embed.to_json(),
            "kinds": [kind.to_json() for kind in self.kinds],
            "kind_of_block": list(self.kind_of_block),
            "head": self.head.to_json(),
            "returns": self.returns.to_json(),
            "hidden": self.hidden.tolist(),
            "token_multiple": self.token_multiple,
            "walks_rest": self.walks_rest,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Profile:
        return cls(
            TraceSettings.from_json(data["settings"]),
            Taken.from_json(data["taken"]),
            data["method"],
            data["expected_error"],
            data["model_type"],
            data["max_positions"],
            tuple(data["windows"]),
            data["tile_tokens"],
            data["is_tied"],
            data["blocks_path"],
            tuple(data["embed_modules"]),
            tuple(data["head_modules"]),
            Unit.from_json(data["embed"]),
            tuple(map(Unit.from_json, data["kinds"])),
            tuple(data["kind_of_block"]),
            Unit.from_json(data["head"]),
            Part.from_json(data["returns"]),
            np.array(data["hidden"]),
            data["token_multiple"],
            data["walks_rest"],
        )
