"""The command `plan`, from an empty cache and from a full one: what a person at a terminal waits for.

Processor seconds (user and system) of the process, for other work makes the wall's seconds longer; both are printed. Where
a plan does not fit beyond doubt they are counted until it is printed, for its remedies come behind it. From a full cache every model of
the catalogue is planned in a process of its own.
"""

from __future__ import annotations

import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.noise import median_and_spread
from lora_backend.installation import this_installation
from lora_backend.models.catalogue import catalogue
from lora_backend.preflight.plan_question import config_to_plan, planner_for

COLD_MODEL = "meta-llama/Llama-3.1-8B"
FITS, TOO_SMALL, LARGE = "1xH100-80G", "1xRTX-4090", "8xH100-80G"
COLD_RUNS = 3
COLD_TARGET_S, WARM_TARGET_S = 7.5, 1.0


@dataclass(frozen=True)
class Taken:
    """Seconds of one call of the command."""

    processor_s: float
    wall_s: float


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for gpus in (FITS, TOO_SMALL):
            homes = [Path(folder) / f"{gpus}-{number}" for number in range(COLD_RUNS)]
            runs = [_plan(COLD_MODEL, gpus, home) for home in homes]
            _say(f"cold plan of {COLD_MODEL} on {gpus}", runs, COLD_TARGET_S)
        home = Path(folder) / "full"
        fill(home)
        warm = {model.name: _plan(model.name, LARGE, home) for model in catalogue()}
    _say(f"warm plan of each of {len(warm)} catalogue models on {LARGE}", list(warm.values()), WARM_TARGET_S)
    for name, taken in sorted(warm.items(), key=lambda item: -item[1].processor_s)[:5]:
        print(f"  {name}: {taken.processor_s:.2f} s of the processor, {taken.wall_s:.2f} s")


def fill(home: Path) -> None:
    """Every catalogue model's profile into a cache, by one process: imports are paid once."""
    from lora_backend.modeling.profiling import profile_for

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    installation = this_installation(_environment(home))
    for model in catalogue():
        began = time.process_time()
        planner, _ = planner_for(model.config, profile_for, installation, LARGE)
        planner.plan(config_to_plan({"model_name": model.name}))
        print(f"  traced {model.name} in {time.process_time() - began:.1f} s of the processor", flush=True)
    logging.disable(logging.NOTSET)


def _plan(model: str, gpus: str, home: Path) -> Taken:
    """One call, to its end where the plan fits, else until it is printed."""
    command = [sys.executable, "-m", "lora_backend", "plan", "--model", model, "--gpus", gpus, "--lang", "en"]
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(home), text=True
    ) as popen:
        assert popen.stdout is not None
        verdict = popen.stdout.readline()
        assert verdict, f"{model} cannot be planned"
        if not verdict.startswith("It fits."):
            times = psutil.Process(popen.pid).cpu_times()
            popen.kill()
            return Taken(times.user + times.system, time.monotonic() - began)
        popen.stdout.read()
        _, status, used = os.wait4(popen.pid, 0)
        popen.returncode = os.waitstatus_to_exitcode(status)
    return Taken(used.ru_utime + used.ru_stime, time.monotonic() - began)


def _environment(home: Path) -> Mapping[str, str]:
    return {**os.environ, "FLIGHTDECK_HOME": str(home)}


def _say(what: str, runs: list[Taken], target_s: float) -> None:
    processor = [taken.processor_s for taken in runs]
    wall = median_and_spread([taken.wall_s for taken in runs], "s")
    print(
        f"{what}: {median_and_spread(processor, 's')} of the processor, wall {wall}; target {target_s:g} s, {_held(processor, target_s)}",
        flush=True,
    )


def _held(processor: list[float], target_s: float) -> str:
    over = sum(value > target_s for value in processor)
    return (
        f"held by all (median {statistics.median(processor):.2f})"
        if not over
        else f"missed by {over} of {len(processor)}"
    )
