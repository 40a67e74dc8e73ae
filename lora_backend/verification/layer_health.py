"""What the values of a layer say beyond its rank, as the torch process reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LayerHealth:
    """One LoRA layer. The three figures are there for two-dimensional layers: see `modeling/health.py`."""

    name: str
    """Canonical: without wrappers, as the base model calls the module."""
    dtype: str
    has_nonfinite: bool
    """Whether a value is NaN or infinite."""
    adds_nothing: bool
    """Whether A, B or AdaLoRA's E is all zero."""
    norm: float | None = None
    """‖scaling·B·A‖, Frobenius."""
    effective_rank: float | None = None
    """exp of the entropy of the singular values."""
    needed_rank: int | None = None
    """The smallest rank that keeps 99 % of ‖ΔW‖²."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_healths(answer: Iterable[Mapping[str, Any]]) -> dict[str, LayerHealth]:
    """The torch process's answer, by layer."""
    return {row["name"]: LayerHealth(**row) for row in answer}
