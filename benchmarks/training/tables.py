"""What was measured, as tables in Markdown: docs/speed.md holds them as they are printed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.noise import median_and_spread
from benchmarks.training import contenders as who
from benchmarks.training.contenders import Contender
from benchmarks.training.one_turn import Turn
from benchmarks.training.products import Products
from benchmarks.training.step_profile import GROUPS, REST

Turns = Mapping[str, Sequence[Turn]]
"""By the contender's name, its turns."""
SPEED_TARGETS = {"the demo's chats": {who.AUTO.name: 2.0, who.FP32.name: 1.3}, "rows of mixed length": {who.AUTO.name: 4.0, who.FP32.name: 2.2}}  # fmt: skip
"""To TRL in fp32. Those of a step in bf16 are for processors with AMX."""
BEST_TARGET = 1.5
"""To the best of TRL that was found."""
LIMIT_TARGETS = {"fp32": 0.65, "bf16": 0.2}


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*cells: str) -> str:
    return "\n" + row(*cells) + "\n" + row(*("---" for _ in cells))


def print_speeds(turns: Turns) -> None:
    """Speed, its ratio to TRL in fp32, memory, and the seconds that are not steps."""
    print(head("who", "tokens/s", "× TRL in fp32", "tokens/s of a core", "peak memory, MiB", "beside its steps, s", "loss, first to last"))  # fmt: skip
    for name, taken in turns.items():
        core = statistics.median(turn.tokens_per_core_s for turn in taken)
        once = statistics.median(turn.once_s for turn in taken)
        losses = taken[0].losses
        print(
            row(
                name,
                median_and_spread([turn.tokens_per_s for turn in taken], "tokens/s"),
                _ratio(turns, name, who.TRL_FP32.name),
                f"{core:.3g}",
                f"{taken[0].peak_bytes / 2**20:.0f}",
                f"{once:.1f}",
                f"{losses[0]:.3f} to {losses[-1]:.3f}" if losses else "-",
            ),
            flush=True,
        )
    for name, taken in turns.items():
        print(f"\n{name}: {taken[0].settings}; {len(taken[0].tokens)} steps of {taken[0].tokens_a_step:.0f} tokens.")


def print_targets(turns: Turns, rows: str) -> None:
    """What was to be reached, and what was."""
    print(head("target", "to reach", "reached"))
    for name, wanted in SPEED_TARGETS[rows].items():
        print(row(f"{name}, to TRL in fp32", f"≥ {wanted}", _ratio(turns, name, who.TRL_FP32.name)))
    for name in turns:
        if name == who.TRL_DEFAULTS.name or name.startswith(who.BEST_OF_TRL):
            print(row(f"{who.AUTO.name}, to {name}", f"≥ {BEST_TARGET}", _ratio(turns, who.AUTO.name, name)))
    pairs = [(who.AUTO.name, who.TRL_FP32.name), (who.FP32.name, who.TRL_FP32.name), (who.FP32.name, who.PADDED.name)]
    for mine, other in pairs:
        if mine in turns and other in turns:
            share = turns[mine][0].peak_bytes / turns[other][0].peak_bytes
            print(row(f"peak memory: {mine}, to {other}", "≤ 1", f"{share:.2f}"))


def print_curves(turns: Turns) -> None:
    """How far the losses of ours lie from TRL's in fp32, step by step."""
    if who.TRL_FP32.name not in turns:
        return
    theirs = turns[who.TRL_FP32.name][0].losses
    print(head("loss beside TRL's in fp32", "apart at most", "steps"))
    for one in who.OURS.values():
        if one.name in turns:
            ours = turns[one.name][0].losses
            worst = max(abs(mine - other) / other for mine, other in zip(ours, theirs, strict=True))
            print(row(one.name, f"{worst:.3%}", len(theirs)))


def print_limits(turns: Turns, limits: Mapping[str, tuple[str, Products]]) -> None:
    """`limits`: of each contender the number format in which it multiplies, and the products of one of its steps."""
    print(head("matrix products alone", "in", "GFLOP/s", "tokens/s", "share that a step reaches", "to reach"))
    for name, (dtype, limit) in limits.items():
        tokens = turns[name][0].tokens_a_step
        speed = median_speed(turns[name])
        share = f"{speed * limit.seconds / tokens:.0%}"
        rate = f"{limit.flops / limit.seconds / 1e9:.0f}"
        print(row(name, dtype, rate, f"{tokens / limit.seconds:.0f}", share, f"≥ {LIMIT_TARGETS[dtype]:.0%}"))


def print_profiles(profiles: Mapping[str, Turn]) -> None:
    """What the time of a step goes to."""
    print(head("a step's time", *GROUPS, REST))
    for name, turn in profiles.items():
        found = turn.profile or []
        whole = sum(seconds for _, seconds in found) or 1.0
        print(row(name, *(f"{seconds / whole:.0%}" for _, seconds in found)))


def number_format(one: Contender, taken: Sequence[Turn]) -> str:
    """In which this one of ours multiplies."""
    return "bf16" if "trains in bf16" in taken[0].settings else one.base


def median_speed(taken: Sequence[Turn]) -> float:
    return statistics.median(turn.tokens_per_s for turn in taken)


def _ratio(turns: Turns, mine: str, other: str) -> str:
    if mine not in turns or other not in turns:
        return "-"
    return f"{median_speed(turns[mine]) / median_speed(turns[other]):.2f}"
