"""The check of a config: parse, check and compare with the defaults, in milliseconds of this machine."""

from __future__ import annotations

import time

from benchmarks.noise import median_and_spread
from lora_backend.config.check import check_config
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import template
from lora_backend.config.diff import diff_configs
from lora_backend.config.schema import KEYS, default_config
from lora_backend.config.yaml_limits import MAX_KEYS


def main() -> None:
    whole = template({"model_name": "./my-model"})
    more = "".join(f"their_key_{number}: {number}\n" for number in range(60 - len(KEYS)))
    _line("60 keys, commented (at most 20 ms)", whole + more, runs=15)
    lines = 5_000
    layers = "target_layers:\n" + "".join(f"  - {number}\n" for number in range(lines - whole.count("\n") - 1))
    _line("5,000 lines, most of them one list (at most 1,000 ms)", whole.replace("target_layers:\n", layers, 1), runs=5)
    foreign = "".join(f"their_key_{number}: {number}\n" for number in range(MAX_KEYS - len(KEYS)))
    _line(f"{MAX_KEYS:,} keys, most of them unknown (at most 1,000 ms)", whole + foreign, runs=3)


def _line(title: str, text: str, runs: int) -> None:
    times = []
    for run in range(runs):
        began = time.perf_counter()
        document = parse_config(f"{text}# {run}\n")  # what was read already is kept
        check_config(document)
        diff_configs(document.values, default_config(), KEYS)
        times.append((time.perf_counter() - began) * 1000)
    print(f"{title}: {median_and_spread(times, 'ms')}", flush=True)
