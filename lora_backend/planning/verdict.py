"""Whether what is planned for a device fits there, and whether that is beyond doubt: one rule, for every kind of device.

All sizes are bytes. What a device holds at its peak is `total`: tensors, and an overhead that is assumed. It may be more:

- The tensors by the expected error of the way they were computed (`Profile.expected_error`, measured against full traces).
  The error is a share of the true figure, so a figure that is 50 % too low stands for twice as much: tensors × e / (1 − e).
- The overhead (CUDA context, cuBLAS workspace, reserve for fragmentation) by as much again. It is an assumption, not a
  measurement.
- In any case by 3 % of what is free, which other programs may take meanwhile. An assumption too; it is what decides for
  a traced plan on the CPU, which has hardly any overhead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from lora_backend.terminal import Tone

if TYPE_CHECKING:  # a supervisor reads plans, and needs none of what makes them
    from lora_backend.planning.cost.memory import Breakdown

Verdict = Literal["fits", "tight", "over"]
"""`over`: total > what is free. `tight`: it fits, but total + uncertainty would not."""
ORDER: tuple[Verdict, ...] = ("fits", "tight", "over")
TONES: dict[Verdict, Tone] = {"fits": "good", "tight": "doubt", "over": "bad"}
LEAST_MARGIN = 0.03
"""Of what is free on a device. An assumption: other programs come and go."""
LARGEST_ERROR = 0.9
"""A larger expected error says nothing of the true figure."""


def uncertainty_bytes(breakdown: Breakdown, expected_error: float, capacity_bytes: int) -> int:
    """By how much the true peak of a device may be above `breakdown.total`; 0 for one that holds nothing."""
    if not breakdown.total:
        return 0
    error = min(expected_error, LARGEST_ERROR)
    possible = breakdown.tensors * error / (1 - error) + breakdown.overhead
    return round(max(possible, LEAST_MARGIN * capacity_bytes))


def verdict_of(total_bytes: int, uncertainty: int, capacity_bytes: int) -> Verdict:
    """The rule."""
    if total_bytes > capacity_bytes:
        return "over"
    return "tight" if total_bytes + uncertainty > capacity_bytes else "fits"


def worst_of(verdicts: Iterable[Verdict]) -> Verdict:
    """What several devices come to together."""
    return max(verdicts, key=ORDER.index, default="fits")
