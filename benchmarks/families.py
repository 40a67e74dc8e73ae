"""How every causal family that transformers knows is planned: traced, by formula, or refused, each with its reason.

Of each the default config is taken, at its own size. Beside it stands whether one real training step of a small random
model of the family runs on the CPU. `python -m benchmarks.families [FAMILY …]` takes some of them.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from benchmarks.small_models import default_facts, own_step
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.modeling.profiling import profile_for
from lora_backend.models.causal import why_not_causal

CONFIG = TrainingConfig(model_name="any", precision="bf16", batch_size=1)
MOST_SECONDS = 120
"""Of a processor, for each question about a family; the planner's own bound is lower."""
STEP_RUNS = ""


class Answer(NamedTuple):
    """How a family is planned, and why not better."""

    method: str
    reason: str


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    runs = traced = 0
    print("family | planned | its own step | reason")
    for family in sys.argv[1:] or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        if family not in CONFIG_MAPPING:
            continue
        method, reason = _apart(lambda: planned(family)) or ("no answer", f"more than {MOST_SECONDS} s")  # noqa: B023  # is called here
        failed = "" if method == "not causal" else _apart(lambda: Answer(own_step(family), ""))  # noqa: B023
        own = "no answer" if failed is None else "runs" if failed == ("", "") else "" if not failed else failed[0]
        counts[method] += 1
        runs += own == "runs"
        traced += own == "runs" and method.startswith("traced")
        print(f"{family} | {method} | {own} | {reason}", flush=True)
    print(", ".join(f"{number} {method}" for method, number in counts.most_common()))
    print(f"of {runs} whose own step runs {traced} are traced")


def planned(family: str) -> Answer:
    """How the default config of a family is planned."""
    try:
        facts = json.loads(json.dumps(default_facts(family), default=str))
    except Exception as error:  # some defaults contradict one another
        return Answer("no default config", " ".join(str(error).split())[:160])
    if why_not_causal(facts) is not None:
        return Answer("not causal", "")
    try:
        profile = profile_for(facts, CONFIG)
    except ModelError as error:
        return Answer("refused", error.message.text("en"))
    return Answer(profile.method, f"expected within {profile.expected_error:.0%}")


def _apart(ask: Callable[[], Answer]) -> Answer | None:
    """The answer of a process of its own, or None where it takes too long: families leave much behind."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            os.write(writing, json.dumps(ask()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return Answer(*json.loads(said)) if said else None


if __name__ == "__main__":
    main()
