"""What a profile belongs to: how a step is taken, and the rows of one pass where they are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple

from lora_backend.config.schema import KEYS, TrainingConfig

CHUNKED = ("auto", "chunked_nll")
"""Words of `loss_type` that leave out the logits of tokens without a label, where the model's loss can be had so."""


class Batch(NamedTuple):
    """The rows of one pass, where they are known better than from the config."""

    rows: int
    tokens: int
    """In the longest row; padded ones have as many each."""
    uneven: bool
    """Whether some rows are shorter."""
    labelled: float = 1.0
    """Share of the tokens that have a label."""
    lengths: tuple[int, ...] | None = None
    """Of a real flat batch: tokens of each of its rows."""

    @classmethod
    def of(cls, config: TrainingConfig) -> Batch:
        """The largest that a config lets through: rows as long as may be, and of unequal lengths where there are several.

        Lines that are packed are such rows too: a line may be one row, or several.
        """
        return cls(config.batch_size, config.max_length, uneven=config.batch_size > 1)

    @property
    def total(self) -> int:
        """Tokens that go through the model, padding with them."""
        return self.rows * self.tokens if self.lengths is None else sum(self.lengths)


@dataclass(frozen=True)
class TraceSettings:
    """What a profile belongs to; another set of these is another profile."""

    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    adapter_precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """PEFT's adapters are fp32 and compute under autocast; another word means no autocast."""
    gradient_checkpointing: bool = False
    quantization: Literal["nf4", "int8"] | None = None
    attn_implementation: str | None = None
    batching: Literal["flat", "padded"] = "padded"
    """`flat` is asked for by every word but `padded`: a model that cannot train so is traced with padded rows, and its
    profile says so (`Profile.taken`)."""
    fused_lora: bool = False
    loss_type: str = "nll"
    """As the config has it: what `auto` comes to stands in `Profile.taken`."""
    is_tiled: bool = False
    """Whether the chunked loss takes more than one tile of tokens."""
    labelled: float = 1.0
    """Share of the tokens that go through the head: the chunked loss leaves out those without a label."""
    uneven: bool = False
    """Several rows of unequal length that are padded need an explicit attention mask; one row, or equal ones, need none.
    A flat batch needs none in any case (`Profile.serves`)."""
    lengths: tuple[int, ...] | None = None
    """Of a real flat batch: its profile is for just these rows, at any rank."""
    tokens_above: int = 0
    """The longest attention window that the rows exceed (0: none, or no windows): beyond it masks are built."""
    target_modules: str | tuple[str, ...] = "all-linear"
    target_layers: tuple[int, ...] | None = None
    rank_pattern: tuple[tuple[str, int], ...] = ()
    modules_to_save: tuple[str, ...] = ()
    bias: str = "none"
    use_dora: bool = False
    lora_dropout: bool = False

    @classmethod
    def of(
        cls,
        config: TrainingConfig,
        precision: str,
        windows: tuple[int, ...] = (),
        tile_tokens: int | None = None,
        batch: Batch | None = None,
    ) -> TraceSettings:
        """The set that a training config asks for.

        `precision` is resolved, `windows` are the model's attention windows and `tile_tokens` the chunked loss's tile
        (None: longer than any batch).
        `batch`: a real one, in place of the largest. Lists whose order means nothing are the same in any order.
        """
        is_flat = config.batching != "padded" if batch is None else batch.lengths is not None
        batch = batch or Batch.of(config)
        is_chunked = config.loss_type in CHUNKED
        labelled = max(round(batch.labelled, 3), 0.001) if is_chunked else 1.0
        said = {field.name: getattr(config, field.name) for field in fields(cls) if field.name in KEYS}
        known = {name: _unordered(value) for name, value in said.items() if value is not None}
        return cls(
            **known
            | {
                "precision": precision,
                "lora_dropout": config.lora_dropout > 0,
                "batching": "flat" if is_flat else "padded",
                "is_tiled": is_chunked and tile_tokens is not None and batch.total * labelled > tile_tokens,
                "labelled": labelled,
                "uneven": batch.uneven,
                "lengths": batch.lengths,
                "tokens_above": max((window for window in windows if batch.tokens >= window), default=0),
            }
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TraceSettings:
        """The other way round; JSON's lists become tuples again."""
        values = {name.name: data[name.name] for name in fields(cls) if name.name in data}
        for name in ("target_modules", "target_layers", "modules_to_save", "lengths"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        values["rank_pattern"] = tuple((str(name), int(rank)) for name, rank in values.get("rank_pattern", ()))
        return cls(**values)

    @property
    def uses_autocast(self) -> bool:
        """Whether the forward pass runs under autocast, as transformers' Trainer does for fp16 and bf16."""
        return self.precision != "fp32" and self.adapter_precision == "fp32"


def _unordered(value: Any) -> Any:
    """Hashable: a list is the same in any order, a mapping is not, for its first match counts."""
    if isinstance(value, list):
        return tuple(sorted(set(value)))
    return tuple(value.items()) if isinstance(value, dict) else value
