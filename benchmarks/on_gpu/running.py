"""Runs the parts, each in a process of its own that is ended at its deadline."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.on_gpu.outcome import Outcome
from benchmarks.on_gpu.parts import Found, Part

BUDGET_S = 470.0
"""Of all parts together: under eight minutes."""
LEAST_S = 10.0
"""With less than that left, a part does not begin."""
Runner = Callable[[Part, Found, float], Outcome]
"""Runs one part within so many seconds. Raises `TimeoutError` where it takes longer."""


def in_its_own_process(command: Sequence[str]) -> Runner:
    """`command`: of the script; the part's name and two files, what was found and what it finds, are put behind it."""

    def run(part: Part, found: Found, limit_s: float) -> Outcome:
        with tempfile.TemporaryDirectory() as folder:
            before, behind = Path(folder) / "found.json", Path(folder) / "outcome.json"
            before.write_text(json.dumps([asdict(outcome) for outcome in found.values()]))
            asked = [*command, "--part", part.name, str(before), str(behind)]
            try:
                done = subprocess.run(asked, capture_output=True, text=True, timeout=limit_s, check=False)
            except subprocess.TimeoutExpired as error:
                raise TimeoutError from error
            if not behind.is_file():
                words = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[-1]
                return Outcome("fails", words, part=part.name)
            return Outcome(**json.loads(behind.read_text()))

    return run


def run_all(
    parts: Sequence[Part], run: Runner, budget_s: float = BUDGET_S, clock: Callable[[], float] = time.monotonic
) -> list[Outcome]:
    """One outcome for each part, in their order; what there was no time for is left out, in words."""
    found: dict[str, Outcome] = {}
    ends = clock() + budget_s
    for part in parts:
        began = clock()
        limit_s = min(part.limit_s, ends - began)
        if limit_s < LEAST_S:
            outcome = Outcome("left out", f"the {budget_s:.0f} s for all parts were over", part=part.name)
        else:
            print(f"{part.name} …", file=sys.stderr, flush=True)
            try:
                outcome = run(part, found, limit_s)
            except TimeoutError:
                outcome = Outcome("left out", f"it was not done within {limit_s:.0f} s", part=part.name)
        outcome.seconds = clock() - began
        found[part.name] = outcome
    return list(found.values())
