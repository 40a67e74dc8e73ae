"""Run every benchmark and print its lines: `python -m benchmarks [NAME …]`."""

from __future__ import annotations

import sys

from benchmarks import (
    attention,
    chat_speed,
    config_check,
    config_page,
    demo_time,
    first_text,
    forty_pairs,
    hostile_wait,
    labelling,
    large_data,
    memory_prediction,
    merge_memory,
    partition_speed,
    placement,
    plan_speed,
    rank_check,
    run_history,
    training_speed,
    two_processes,
)

BENCHMARKS = {
    "attention": attention.main,
    "chat_speed": chat_speed.main,
    "config_check": config_check.main,
    "config_page": config_page.main,
    "demo_time": demo_time.main,
    "first_text": first_text.main,
    "hostile_wait": hostile_wait.main,
    "forty_pairs": forty_pairs.main,
    "labelling": labelling.main,
    "large_data": large_data.main,
    "memory_prediction": memory_prediction.main,
    "merge_memory": merge_memory.main,
    "partition_speed": partition_speed.main,
    "placement": placement.main,
    "plan_speed": plan_speed.main,
    "rank_check": rank_check.main,
    "run_history": run_history.main,
    "training_speed": training_speed.main,
    "two_processes": two_processes.main,
}


def main() -> None:
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"## {name}", flush=True)
        BENCHMARKS[name]()


main()
