"""A measured curve over ranks: what the held-out loss is where an adapter is truncated to each, and where its knee is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SHARE_OF_GAIN = 0.01
"""Of what the adapter gains over its base model: a rank that loses no more than that is as good as the whole adapter."""


@dataclass(frozen=True)
class CurvePoint:
    """The adapter, truncated to one rank."""

    rank: int
    energy: float
    """Share of Σ‖scale·B·A‖² that is kept."""
    size_bytes: int
    loss: float
    """Nats a learned token, of the rows that were measured."""
    low: float | None = None
    high: float | None = None
    """95 % interval of its difference to the adapter's own rank, of the same rows drawn again and again; positive is worse.
    None where there are too few rows."""


@dataclass(frozen=True)
class RankCurve:
    """All that was measured on the same rows, the lowest rank first."""

    points: tuple[CurvePoint, ...]
    base_loss: float
    """Of the base model alone."""
    num_rows: int
    are_trained: bool = False
    """Whether the rows are those that the adapter learned, and not held out."""

    @property
    def full(self) -> CurvePoint:
        """The adapter as it is."""
        return self.points[-1]

    @property
    def knee(self) -> CurvePoint:
        """The lowest rank from which on none is worse than the whole adapter: by no more than 1 % of what the adapter gains
        over its base model, or by no more than chance explains, for the interval of the difference reaches 0."""
        found = self.full
        for point in reversed(self.points):
            if not self._is_as_good(point):
                break
            found = point
        return found

    def gain_kept(self, point: CurvePoint) -> float | None:
        """Share of the adapter's gain over its base model; None where it has none."""
        gain = self.base_loss - self.full.loss
        return (self.base_loss - point.loss) / gain if gain > 0 else None

    def _is_as_good(self, point: CurvePoint) -> bool:
        lost = point.loss - self.full.loss
        within_noise = point.low is not None and point.low <= 0
        return lost <= SHARE_OF_GAIN * abs(self.base_loss - self.full.loss) or within_noise

    def to_json(self) -> dict[str, Any]:
        """As it comes from the torch process."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RankCurve:
        """The other way round."""
        points: Sequence[Mapping[str, Any]] = data["points"]
        return cls(
            tuple(CurvePoint(**point) for point in points), data["base_loss"], data["num_rows"], data["are_trained"]
        )
