"""Run every benchmark and print its lines: `python -m benchmarks [NAME …]`."""

from __future__ import annotations

import sys

from benchmarks import (
    config_check,
    config_page,
    first_text,
    forty_pairs,
    hostile_wait,
    labelling,
    large_data,
    memory_prediction,
    partition_speed,
    placement,
    plan_speed,
    rank_check,
    run_history,
    training_speed,
)

BENCHMARKS = {
    "config_check": config_check.main,
    "config_page": config_page.main,
    "first_text": first_text.main,
    "hostile_wait": hostile_wait.main,
    "forty_pairs": forty_pairs.main,
    "labelling": labelling.main,
    "large_data": large_data.main,
    "memory_prediction": memory_prediction.main,
    "partition_speed": partition_speed.main,
    "placement": placement.main,
    "plan_speed": plan_speed.main,
    "rank_check": rank_check.main,
    "run_history": run_history.main,
    "training_speed": training_speed.main,
}


def main() -> None:
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"## {name}", flush=True)
        BENCHMARKS[name]()


main()
