"""Where the logits go, and what that does to a placement: the forty pairs of `tests/planning/test_true_rule.py`.

A score is the fullest device's bytes / its capacity by an oracle of its own, with the logits where they truly go. "Nothing
hidden" is the map of a launched run in a process that sees its GPUs in their own order.
"""

from __future__ import annotations

import logging
import math
import warnings

from lora_backend.planning.targets import of_words
from tests.planning.test_true_rule import PAIRS, ROUNDING, maps_of, planned


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    print(
        "| model | rows × T | GiB | launched | optimum | direct call | optimum | nothing hidden | accelerate's best |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    flipped = beaten = 0
    for pair in PAIRS:
        (launched, priced), (direct, _) = planned(pair, "launch"), planned(pair, "direct")
        capacities = [device.target.capacity_bytes for device in launched.devices]
        shown = priced.bottleneck(launched.assignment, capacities, "direct")
        maps = [placed for placed in maps_of(pair[0], of_words(pair[3]), launched.profile) if placed is not None]
        best = min((priced.bottleneck(placed, capacities, "direct") for placed in maps), default=math.inf)
        cells = [
            f"**{priced.bottleneck(launched.assignment, capacities, 'launch'):.3f}**",
            f"{priced.least_bottleneck(capacities, 'launch'):.3f}",
            f"**{priced.bottleneck(direct.assignment, capacities, 'direct'):.3f}**",
            f"{priced.least_bottleneck(capacities, 'direct'):.3f}",
            f"{shown:.3f}",
            f"{best:.3f}",
        ]
        print(f"| {pair[0]} | {pair[1]} × {pair[2]} | {pair[3]} | {' | '.join(cells)} |", flush=True)
        flipped += launched.fits != (shown <= 1)
        beaten += best < shown * (1 - ROUNDING)
    print(
        f"\nWith nothing hidden {flipped} of {len(PAIRS)} verdicts would be wrong, and {beaten} placements be beaten."
    )


if __name__ == "__main__":
    main()
