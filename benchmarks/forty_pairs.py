"""How well unequal GPUs are filled: the forty pairs of `tests/planning/test_true_rule.py`.

A score is the fullest device's bytes / its capacity, by an oracle of its own. The maps of accelerate and of transformers are
scored as if they were loaded as a run loads them, with the logits on the head's device.
"""

from __future__ import annotations

import logging
import math
import warnings

from lora_backend.planning.targets import of_words
from tests.planning.forty_pairs import PAIRS, maps_of, planned


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    print("| model | rows × T | GiB | planned | optimum | accelerate's best |\n|---|---|---|---|---|---|")
    over = 0
    for pair in PAIRS:
        plan, priced = planned(pair)
        capacities = [device.target.capacity_bytes for device in plan.devices]
        maps = [placed for placed in maps_of(pair[0], of_words(pair[3]), plan.profile) if placed is not None]
        best = min((priced.bottleneck(placed, capacities) for placed in maps), default=math.inf)
        over += plan.fits and best > 1
        scores = f"**{priced.bottleneck(plan.assignment, capacities):.3f}** | {priced.least_bottleneck(capacities):.3f} | {best:.3f}"
        print(f"| {pair[0]} | {pair[1]} × {pair[2]} | {pair[3]} | {scores} |", flush=True)
    print(f"\nIn {over} of {len(PAIRS)} pairs the plan fits, and no map of accelerate or transformers does.")


if __name__ == "__main__":
    main()
