"""The rank that each layer should have, and the one that its tensors have."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_backend.config.schema import KEYS
from lora_backend.expressions.question import Question
from lora_backend.verification.shapes import LoraLayer
from lora_backend.verification.wrong_values import is_alpha

Rank = int | tuple[int | None, int | None] | None
"""r; (r of A, r of B) where they disagree or one is not there; None where the tensors cannot be read as LoRA."""


@dataclass(frozen=True)
class RankRule:
    """What a config asks of each layer; resolved as PEFT resolves it."""

    r: int | None
    rank_pattern: Mapping[str, int | None] = field(default_factory=dict)
    """Pattern → rank; None where the value is no whole number, so that no rank is asked of what it matches."""
    alpha: float | None = None
    alpha_pattern: Mapping[str, float | None] = field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False
    is_adalora: bool = False
    kept_rows: Mapping[str, int] = field(default_factory=dict)
    """AdaLoRA, on disk only: layer → rows that its budget left."""

    question: Question = field(default_factory=Question, compare=False, repr=False)
    _first: dict[str, dict[str, str | None]] = field(
        default_factory=lambda: {"r": {}, "alpha": {}}, compare=False, repr=False
    )
    """What was answered: name → the first pattern that PEFT takes for it."""

    def prepare(self, names: Iterable[str]) -> None:
        """Match all names at once; a name that is asked for without costs a question of its own."""
        names = tuple(names)
        for kind, patterns in (("r", self.rank_pattern), ("alpha", self.alpha_pattern)):
            if patterns:
                found = self.question.first_matches(patterns, names)
                self._first[kind].update((name, found.get(name)) for name in names)

    def rank_pattern_for(self, name: str) -> str | None:
        """The first of `rank_pattern` that counts for a layer: PEFT's `get_pattern_key` in peft/utils/other.py."""
        return self._first_match("r", self.rank_pattern, name)

    def has_pattern_for(self, name: str) -> bool:
        """Whether `rank_pattern` or `alpha_pattern` says something of a layer."""
        return any(
            self._first_match(kind, patterns, name) is not None
            for kind, patterns in (("r", self.rank_pattern), ("alpha", self.alpha_pattern))
        )

    def for_layer(self, name: str) -> int | None:
        """First pattern that matches, in order, else `r`."""
        if not (self.rank_pattern or self.kept_rows):
            return self.r
        if name in self.kept_rows:
            return self.kept_rows[name]
        pattern = self.rank_pattern_for(name)
        return self.r if pattern is None else self.rank_pattern[pattern]

    def alpha_for(self, name: str) -> float | None:
        """First pattern that matches, in order, else `alpha`."""
        if not self.alpha_pattern:
            return self.alpha
        pattern = self._first_match("alpha", self.alpha_pattern, name)
        return self.alpha if pattern is None else self.alpha_pattern[pattern]

    def scaling_for(self, name: str) -> float | None:
        """alpha / r, or alpha / √r with rsLoRA (PEFT: `LoraLayer.update_layer`); None where no alpha is known."""
        rank, alpha = self.for_layer(name), self.alpha_for(name)
        if alpha is None or not rank or self.is_adalora:  # AdaLoRA scales in another way
            return None
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank

    def _first_match(self, kind: str, patterns: Mapping[str, Any], name: str) -> str | None:
        if not patterns:
            return None
        first = self._first[kind]
        if name not in first:
            first[name] = self.question.first_matches(patterns, [name]).get(name)
        return first[name]


def rank_rule(config: Mapping[str, Any], *, on_disk: bool = False, question: Question | None = None) -> RankRule:
    """The rule in our config, or in the dict of an `adapter_config.json`; its patterns are part of `question`."""
    is_adalora = asks_for_adalora(config)
    r = config.get("init_r") if is_adalora else config.get("r", _default("r", config))
    pattern, alpha = (
        _patterns(config.get("rank_pattern")),
        config.get("lora_alpha", config.get("alpha", _default("alpha", config))),
    )
    kept = {_adalora_layer(key): sum(map(bool, rows)) for key, rows in pattern.items() if isinstance(rows, list)}
    return RankRule(
        r=_whole(r),
        rank_pattern={} if is_adalora else {key: _whole(value) for key, value in pattern.items()},
        alpha=_finite(alpha),
        alpha_pattern={key: _finite(value) for key, value in _patterns(config.get("alpha_pattern")).items()},
        use_rslora=bool(config.get("use_rslora")),
        use_dora=bool(config.get("use_dora")),
        is_adalora=is_adalora,
        kept_rows=kept if is_adalora and on_disk else {},
        question=question or Question(),
    )


def _default(key: str, config: Mapping[str, Any]) -> Any:
    """What a config of ours that leaves out `key` means; a PEFT config always says its own."""
    is_ours = "peft_type" not in config and "lora_alpha" not in config
    return KEYS[key].default if is_ours else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _finite(value: Any) -> float | None:
    return value if is_alpha(value) else None


def _patterns(value: Any) -> Mapping[str, Any]:
    """A config may come from anywhere: what is no mapping names no pattern, and `wrong_values` says so."""
    return {key: item for key, item in value.items() if isinstance(key, str)} if isinstance(value, Mapping) else {}


def asks_for_adalora(config: Mapping[str, Any]) -> bool:
    """Whether it is an `adapter_config.json` of AdaLoRA."""
    return _peft_type(config) == "ADALORA"


def _peft_type(config: Mapping[str, Any]) -> str | None:
    found = config.get("peft_type")
    return None if found is None else str(getattr(found, "value", found))


def _adalora_layer(key: str) -> str:
    """`model.layers.0.self_attn.q_proj.lora_E` (and an adapter's name behind it) → the layer's name."""
    return re.sub(r"\.lora_E(\.\w+)?$", "", key)


def rank_of(layer: LoraLayer) -> Rank:
    """The rank that the tensors have.

    | kind | A | B |
    |---|---|---|
    | linear (Conv1D, quantized, DoRA, MultiheadAttention) | (r, in) | (out, r) |
    | embedding | (r, vocab) | (dim, r) |
    | conv | (r, in, k…) | (out, r / groups, 1…) |
    | experts (E of them) | (r·E, in) | (out, r·E) |
    | merged (old `enable_lora`, n true) | (r·n, in) | (out·n / len, r, 1) |

    Shapes: peft/tuners/lora/layer.py, `update_layer` of each class. `groups` holds what B's second size is to be
    multiplied by (BD-LoRA's blocks as well), `num_experts` what both are to be divided by.
    """
    rank_a, rank_b = _half(layer.shape_a, 0), _half(layer.shape_b, 1)
    if rank_a is None and rank_b is None:
        return None
    if has_empty_tensor(layer) or has_flat_tensor(layer):
        return None
    share_a = layer.num_experts or 1
    share_b = 1 if layer.kind == "merged" else share_a
    rank_b = None if rank_b is None else rank_b * (layer.groups or 1)
    if (rank_a or 0) % share_a or (rank_b or 0) % share_b:  # no rank gives such a shape
        return None
    rank_a = None if rank_a is None else rank_a // share_a
    rank_b = None if rank_b is None else rank_b // share_b
    return rank_a if rank_a == rank_b else (rank_a, rank_b)


def _half(shape: tuple[int, ...] | None, axis: int) -> int | None:
    return shape[axis] if shape is not None and len(shape) > axis else None


def has_empty_tensor(layer: LoraLayer) -> bool:
    """Whether A or B holds nothing, as a shard that was not gathered; AdaLoRA may leave a layer no row at all."""
    a, b = layer.shape_a, layer.shape_b
    if (a is None or 0 not in a) and (b is None or 0 not in b):
        return False
    shapes = [shape for shape in (a, b) if shape is not None]
    if layer.kind == "adalora" and all(len(shape) == 2 for shape in shapes):
        return False
    return any(0 in shape for shape in shapes)


def has_flat_tensor(layer: LoraLayer) -> bool:
    """Whether A or B has fewer than two dimensions, as a flattened shard."""
    a, b = layer.shape_a, layer.shape_b
    return (a is not None and len(a) < 2 and 0 not in a) or (b is not None and len(b) < 2 and 0 not in b)


def is_undecided(layer: LoraLayer) -> bool:
    """Whether the shapes alone do not tell the rank: experts or groups are there, and how many is unknown."""
    if layer.kind == "experts":
        return layer.num_experts is None and _half(layer.shape_a, 0) == _half(layer.shape_b, 1)
    rank_a, rank_b = _half(layer.shape_a, 0), _half(layer.shape_b, 1)
    return (
        layer.kind == "conv"
        and layer.groups is None
        and bool(rank_a and rank_b and rank_a != rank_b and not rank_a % rank_b)
    )


def is_transposed(layer: LoraLayer, expected_r: int | None) -> bool:
    """Whether A stands as (in, r) and B as (r, out), as MLX writes them, or the two are swapped."""
    a, b = layer.shape_a, layer.shape_b
    if (
        layer.kind not in ("linear", "embedding")
        or a is None
        or b is None
        or len(a) != 2
        or len(b) != 2
        or a[1] != b[0]
    ):
        return False
    if layer.in_features is not None and a[1] == layer.in_features:
        return False
    if a[0] != b[1]:
        return a[1] < a[0] and b[0] < b[1]
    # Square layers compose both ways; then only the rank that is expected can tell.
    return a[0] > a[1] == expected_r
