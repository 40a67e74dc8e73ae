"""The demo from the click to its answers, stage by stage: in a fresh workspace, with the model prepared.

    python -m benchmarks.demo_time --seeds 42 1 2 --set precision=fp32

Started as the page starts it: supervisor and trainer in processes of their own. Prints the seconds of the clock and of the
processor's cores for each stage, and the right answers by language. The clock means something on an idle machine alone;
the cores' seconds hold, more or less, beside other work.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from lora_backend.commands.words import setting
from lora_backend.demo.config import PROMISED_CHINESE, PROMISED_ENGLISH, promise_kept
from lora_backend.demo.demo_run import launch_demo
from lora_backend.demo.model import prepare_demo_model
from lora_backend.installation import Installation, this_installation
from lora_backend.runs.record.run_store import RunStore

LOOK_EVERY_S = 0.1
LIMIT_S = 3600.0
BEFORE = "Python, imports and plan"
"""Until the trainer says its first stage."""


def main(words: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo_time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="keys of the demo's config, as YAML")
    asked = parser.parse_args(list(words))
    changes = dict(map(setting, asked.set))
    here = this_installation()
    prepare_demo_model(here.cache, lambda *_: None)
    print(f"seed | precision | seconds | {' | '.join(GROUPS)} | promise | stages: seconds of the clock (of the cores)")
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory(prefix="demo-time-") as folder:
            print(one_demo(replace(here, workspace=Path(folder)), {**changes, "seed": seed}), flush=True)


GROUPS = ("english", "chinese", "ordinary")


def one_demo(installation: Installation, changes: dict[str, Any]) -> str:
    """One line of what one click brought."""
    began = time.monotonic()
    run = launch_demo(installation, changes=changes)
    stages = watched(run, began)
    whole_s = time.monotonic() - began
    answers = run.read_answers()
    if run.state().state != "finished":
        return f"{changes['seed']} | {run.state().state}: {run.state().message} | {run.train_log.read_text()[-800:]}"
    right = [(group, [row for row in answers if row.group == group]) for group in GROUPS]
    counts = " | ".join(
        f"{sum(row.adapter_correct is True for row in rows)} of {len(rows)} (base {sum(row.base_correct is True for row in rows)})"
        for _, rows in right
    )
    enough = {"english": PROMISED_ENGLISH, "chinese": PROMISED_CHINESE}
    missed = [name for name, rows in right if sum(row.adapter_correct is True for row in rows) < enough.get(name, 0)]
    said = "kept" if promise_kept(answers) and not missed else f"MISSED {' '.join(missed)}"
    times = ", ".join(f"{name} {clock_s:.1f} ({cores_s:.1f})" for name, (clock_s, cores_s) in stages.items())
    precision = run.read_attempt().precision
    return f"{changes['seed']} | {precision} | {whole_s:.1f} | {counts} | {said} | {times}"


def watched(run: RunStore, began: float) -> dict[str, tuple[float, float]]:
    """Stage → seconds of the clock and of the cores, until the run has ended."""
    marks: list[tuple[str, float, float]] = [(BEFORE, began, 0.0)]
    cores_s = 0.0
    while not run.exit_json.exists():
        if time.monotonic() - began > LIMIT_S:
            raise TimeoutError(f"{run.path} has not ended within an hour")
        attempt = run.read_status().attempt
        cores_s = max(cores_s, _cores_s([attempt.supervisor, attempt.trainer]))
        if attempt.stage and attempt.stage != marks[-1][0]:
            marks.append((attempt.stage, time.monotonic(), cores_s))
        time.sleep(LOOK_EVERY_S)
    marks.append(("", time.monotonic(), cores_s))
    return {
        name: (marks[place + 1][1] - clock_s, marks[place + 1][2] - cores)
        for place, (name, clock_s, cores) in enumerate(marks[:-1])
    }


def _cores_s(processes: Sequence[Any]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = psutil.Process(process.pid).cpu_times() if process else None
        except psutil.Error:
            times = None
        total += times.user + times.system if times else 0.0
    return total


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
