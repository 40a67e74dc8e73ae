"""How fast a LoRA adapter is trained: Flightdeck beside TRL's SFTTrainer, and beside what the matrix products alone take.

The demo's model (SmolLM2-135M), r 16 on all linear layers, without gradient checkpointing, on two sets of rows: the demo's
chats, and rows of mixed length. Everybody gets the same token ids and labels in the same order (TRL with its own defaults
draws its own). Speed is tokens that are no padding per second, over the steps behind the second one; turns are taken
alternately, each from a fresh adapter. Memory is the most that a contender's process held in its first turn (`VmHWM`,
weights and libraries included).

    python -m benchmarks.training_speed --turns 1 --threads 1 --only auto trl
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.training import contenders as who
from benchmarks.training import tables
from benchmarks.training.contenders import Contender
from benchmarks.training.one_turn import Turn
from benchmarks.training.processes import Corner, TurnFailedError
from benchmarks.training.products import Products
from benchmarks.training.row_sets import RowSet, demo_chats, mixed_rows

PROBE_ROWS, PROBE_TOKENS = 24, 4000
"""The least of a set on which TRL's settings are tried: three steps of rows, three of packed lines."""
PROBE_LIMIT_S = 240.0
PROFILED = {one.name for one in (who.AUTO, who.FP32, who.COMPILED, who.TRL_FP32)}


def main(words: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_speed")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch; unset: as it comes")
    parser.add_argument("--chats", type=int, default=64, help="rows of the first set; 0 leaves it out")
    parser.add_argument("--mixed", type=int, default=32, help="rows of the second set; 0 leaves it out")
    parser.add_argument(
        "--only", nargs="+", choices=[*who.OURS, "trl", "trl_defaults"], help="contenders; unset: all, and TRL's best"
    )
    asked = parser.parse_args(list(words))
    model = who.demo_model()
    for rows in (demo_chats(model, asked.chats), mixed_rows(model, asked.mixed)):
        if rows.rows:
            compare(rows, asked)


def compare(rows: RowSet, asked: argparse.Namespace) -> None:
    print(f"\n### {rows}", flush=True)
    known = {**who.OURS, "trl": who.TRL_FP32, "trl_defaults": who.TRL_DEFAULTS}
    chosen = [known[name] for name in asked.only or [name for name in known if name != "compiled"]]
    if not asked.only:
        chosen.append(best_of_trl(rows, asked.threads))
    turns, profiles = take_turns(chosen, rows, asked.turns, asked.threads)
    tables.print_speeds(turns)
    tables.print_targets(turns, rows.name)
    tables.print_curves(turns)
    tables.print_limits(turns, limits(turns, rows, asked.threads))
    tables.print_profiles(profiles)


def limits(turns: tables.Turns, rows: RowSet, threads: int | None) -> dict[str, tuple[str, Products]]:
    """Of those of ours that are as fast as they can be: the time of their matrix products alone."""
    found = {}
    for one in (who.FP32, who.AUTO):
        if one.name in turns:
            tokens = round(turns[one.name][0].tokens_a_step)
            labels = round(tokens * rows.num_labels / rows.num_tokens)
            dtype = tables.number_format(one, turns[one.name])
            with Corner(None, (), threads) as corner:
                found[one.name] = dtype, corner.products(dtype, tokens, labels)
    return found


def take_turns(
    chosen: Sequence[Contender], rows: RowSet, count: int, threads: int | None
) -> tuple[dict[str, list[Turn]], dict[str, Turn]]:
    """By name, the turns of each, and one more that is profiled. Who fails is named, and left out from there on."""
    found: dict[str, list[Turn]] = {one.name: [] for one in chosen}
    profiled: dict[str, Turn] = {}
    with ExitStack() as stack:
        corners = {one.name: stack.enter_context(Corner(one, rows.rows, threads)) for one in chosen}
        for number in range(count + 1):
            for name, corner in list(corners.items()):
                try:
                    if number < count:
                        found[name].append(corner.turn())
                    elif name in PROFILED:
                        profiled[name] = corner.turn(is_profiled=True)
                except TurnFailedError as error:
                    print(f"{name} fails: {error}", flush=True)
                    del corners[name]
    return {name: turns for name, turns in found.items() if turns}, profiled


def best_of_trl(rows: RowSet, threads: int | None) -> Contender:
    """The fastest of TRL's settings: of its ways to batch, then of its number formats, then compiled. Says what was tried."""
    speeds: dict[str, float] = {}
    count = PROBE_ROWS
    while RowSet("", rows.rows[:count]).num_tokens < PROBE_TOKENS and count < len(rows.rows):
        count += 1
    few = RowSet(rows.name, rows.rows[:count])

    def fastest(candidates: Sequence[Contender]) -> Contender:
        for one in candidates:
            if one.name not in speeds:
                speeds[one.name] = _tried(one, few, threads)
        return max(candidates, key=lambda one: speeds[one.name])

    print("TRL's settings, tried on the first rows, tokens/s:", flush=True)
    batching = fastest(who.trl_batchings())
    best = fastest([batching, *who.trl_precisions(batching)])
    best = fastest([best, who.trl_compiled(best)])
    return Contender(f"{who.BEST_OF_TRL}: {best.name.removeprefix('TRL, ')}", "TRL", best.settings, best.base)


def _tried(one: Contender, rows: RowSet, threads: int | None) -> float:
    try:
        with Corner(one, rows.rows, threads) as corner:
            found = corner.turn(limit_s=PROBE_LIMIT_S).tokens_per_s
    except TurnFailedError as error:
        print(f"  {one.name}: fails ({error})", flush=True)
        return 0.0
    print(f"  {one.name}: {found:.0f}", flush=True)
    return found


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
