"""What an expression matches. Also a program: it answers what stands on its input, in a process that can be ended.

In: `{"names": [[…], …], "asks": [[form, pattern, index into names], …], "cpu_s": seconds}`. Out: the monotonic clock
when it begins, then a line for each ask: `[indices of the names that match, their numbers or null, fault or null, the
clock]`. It imports nothing of ours, so that it starts in the time that Python itself takes.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from collections.abc import Sequence

KEY, WHOLE, SAVED, LAYERS = "key", "whole", "saved", "layers"
"""The four ways in which PEFT reads an expression: a key of `rank_pattern` or `alpha_pattern`; a text in
`target_modules` or `exclude_modules`; an entry of `modules_to_save`; an entry of `layers_pattern`."""
AROUND = {
    KEY: r"(.*\.)?({})$",  # peft/utils/other.py, get_pattern_key
    WHOLE: "{}",  # peft/tuners/tuners_utils.py, check_target_module_exists, as the next two
    SAVED: r"(^|.*\.){}($|\..*)",
    LAYERS: r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
}
MEMORY_BYTES = 512 * 2**20
NICE = 10
"""Whoever else works on this machine comes first."""

Answer = tuple[list[int], list[str] | None, str | None]
"""Which names match, by index; of a `layers` expression the numbers behind it; what keeps it from compiling."""


def answer(form: str, pattern: str, names: Sequence[str]) -> Answer:
    """Hold one expression against names, as PEFT would."""
    try:
        compiled = re.compile(AROUND[form].replace("{}", pattern))
    except RecursionError:
        return [], None, "it is nested too deeply"
    except MemoryError:
        raise
    except Exception as error:  # `re.error`; for absurd counts OverflowError and ValueError
        return [], None, str(error)
    if form == LAYERS:
        numbered = [(index, found["idx"]) for index, name in enumerate(names) if (found := compiled.match(name))]
        return [index for index, _ in numbered], [number for _, number in numbered], None
    match = compiled.fullmatch if form == WHOLE else compiled.match
    return [index for index, name in enumerate(names) if match(name)], None, None


def main() -> None:
    """Answer until the asks end, or until this process is ended."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICE)
    request = json.load(sys.stdin)
    # Who asked ends this process at the deadline; should it be gone by then, the kernel does.
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"]))
    print(time.monotonic(), flush=True)
    for form, pattern, index in request["asks"]:
        found = answer(form, pattern, request["names"][index])
        print(json.dumps([*found, time.monotonic()]), flush=True)


if __name__ == "__main__":
    main()
