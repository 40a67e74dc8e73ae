"""Several measurements of one thing, as a median with its spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def median_and_spread(values: Sequence[float], unit: str) -> str:
    """`0.84 s (0.80 to 0.91, 7 runs)`: the spread is the machine's noise."""
    return f"{statistics.median(values):.3g} {unit} ({min(values):.3g} to {max(values):.3g}, {len(values)} runs)"
