"""How much faster two ddp processes with a core each train than one process with one core: the same run, by the same command.

A made-up Llama (r 8 on all linear layers, fp32) learns rows of mixed length. One process is bound to one core, each of two to
one of its own, and torch has one thread in each. Speed is tokens that are no padding a second, over the steps behind the
second, in which memory is measured. Turns are taken alternately, and a ratio is that of one turn of each, one behind the
other. What other processes of the machine took meanwhile is said beside it: where that is much, a ratio by the clock says
little. Beside it stands the ratio by processor time: of every step, what its busiest process took of a processor.

    python -m benchmarks.two_processes --turns 5 --blocks 3
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from benchmarks.made_up_model import BLOCK_BYTES, WORDS, make_sharded
from benchmarks.noise import median_and_spread
from lora_backend.config.config_writing import dump_yaml
from lora_backend.runs.record.curves import points, read_columns
from lora_backend.runs.record.run_store import RunStore

STEADY_AFTER = 2
"""Steps that are left out."""
SHORTEST, LONGEST = 96, 160
"""Words of a row; half of them are the question's."""
VALUES: dict[str, Any] = {
    "r": 8, "alpha": 16, "target_modules": "all-linear", "learning_rate": 1e-3, "precision": "fp32", "seed": 42,
    "batch_size": 4, "target_batch_size": 16, "logging_steps": 1, "max_length": 512,
}  # fmt: skip
WAYS: dict[int, dict[str, Any]] = {1: {"strategy": "single"}, 2: {"strategy": "ddp", "num_processes": 2}}
"""Number of processes, each on a core of its own → the keys that ask for them."""
TICK_S = 0.02


@dataclass(frozen=True)
class Turn:
    """One run."""

    tokens_per_s: float
    tokens_per_busy_s: float
    """By what each step's busiest process took of its core, in the place of the clock."""
    loss: float
    """Of its last step."""
    others: float
    """Cores that other processes of the machine took meanwhile."""


def main(words: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.two_processes")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=3, help="of 17 million parameters each")
    asked = parser.parse_args(list(words))
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("two cores are needed")
        return
    with tempfile.TemporaryDirectory(prefix="two-processes-") as folder:
        config = made_config(Path(folder), asked.blocks, asked.steps)
        turns: dict[int, list[Turn]] = {number: [] for number in WAYS}
        print(
            "turn | one process, tokens/s | two, tokens/s | ratio | by processor time | others took, cores", flush=True
        )
        for number in range(1, asked.turns + 1):
            one, two = (take_turn(Path(folder), config, count, cores, number) for count in WAYS)
            turns[1].append(one)
            turns[2].append(two)
            by_clock, by_processor = ratios(one, two)
            print(f"{number} | {one.tokens_per_s:.1f} | {two.tokens_per_s:.1f} | {by_clock:.3f} | {by_processor:.3f} | {one.others:.2f}, {two.others:.2f}", flush=True)  # fmt: skip
    for count, taken in turns.items():
        print(f"{count}: {median_and_spread([turn.tokens_per_s for turn in taken], 'tokens/s')}")
    pairs = list(zip(turns[1], turns[2], strict=True))
    for place, name in enumerate(("ratio", "ratio by processor time")):
        print(f"{name}: {median_and_spread([ratios(one, two)[place] for one, two in pairs], '×')}")
    apart = max(abs(two.loss - one.loss) / one.loss for one, two in pairs)
    print(f"loss of the last step: {statistics.median(turn.loss for turn in turns[1]):.6f}, {apart:.1e} apart at most")


def ratios(one: Turn, two: Turn) -> tuple[float, float]:
    """By the clock, and by processor time."""
    return two.tokens_per_s / one.tokens_per_s, two.tokens_per_busy_s / one.tokens_per_busy_s


def made_config(folder: Path, num_blocks: int, num_steps: int) -> dict[str, Any]:
    """A model, its tokenizer and rows in `folder`, and the keys that all runs share."""
    make_sharded(folder, num_blocks * BLOCK_BYTES, 1)
    save_tokenizer(folder / "base")
    chance, rows = random.Random(0), []
    for _ in range(VALUES["target_batch_size"] * num_steps):
        said = [f"w{chance.randrange(WORDS - 3)}" for _ in range(chance.randint(SHORTEST, LONGEST))]
        rows.append({"prompt": " ".join(said[: len(said) // 2]), "completion": " ".join(said[len(said) // 2 :])})
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"model_name": str(folder / "base"), "dataset": str(data), "max_steps": num_steps, **VALUES}


def save_tokenizer(folder: Path) -> None:
    """A word, a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(WORDS - 3))]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=core, **named).save_pretrained(folder)


def take_turn(folder: Path, config: dict[str, Any], count: int, cores: Sequence[int], number: int) -> Turn:
    """Train with `count` processes, as at a terminal; raises `RuntimeError` with the log's end where that fails."""
    run = RunStore(folder / "ws" / "runs" / f"{count}-{number}")
    path = folder / f"{count}.yaml"
    path.write_text(dump_yaml({**config, **WAYS[count]}))
    places = {"FLIGHTDECK_WORKSPACE": folder / "ws", "FLIGHTDECK_HOME": folder / "home"}
    environment = {**os.environ, **{name: str(place) for name, place in places.items()}, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lora_backend", "train", str(path), "--run-dir", str(run.path), "--yes"]
    began, busy_s, own_s = time.monotonic(), _busy_s(), _own_s()
    trainer = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids = [trainer.pid] if count == 1 else peers_of(run, trainer, count)
    for pid, core in zip(pids, cores, strict=False):
        bind(pid, core)
    busy = busy_at_steps(run, trainer, pids)
    trainer.wait()
    took_s, others_s = time.monotonic() - began, (_busy_s() - busy_s) - (_own_s() - own_s)
    if trainer.returncode != 0:
        raise RuntimeError(run.train_log.read_text()[-2000:] if run.train_log.exists() else "it has not begun")
    columns = read_columns(run.metrics_jsonl)
    times, speeds = points(columns, "time")[1], points(columns, "tokens_per_s")[1]
    took = [float(now - before) for before, now in pairwise(times)][STEADY_AFTER - 1 :]
    tokens = sum(seconds * float(speed) for seconds, speed in zip(took, speeds[STEADY_AFTER:], strict=True))
    assert len(busy) == len(times) - 1, "each step was seen when it ended"
    return Turn(
        tokens_per_s=tokens / sum(took),
        tokens_per_busy_s=tokens / sum(busy[STEADY_AFTER - 1 :]),
        loss=float(points(columns, "loss")[1][-1]),
        others=max(others_s / took_s, 0.0),
    )


def peers_of(run: RunStore, trainer: subprocess.Popen[bytes], count: int) -> list[int]:
    """The run's processes, as soon as they are there: what they start later stays on their cores."""
    while trainer.poll() is None:
        time.sleep(TICK_S)
        pids = [peer.process.pid for peer in run.read_status().attempt.peers if peer.process]
        if len(pids) == count:
            return pids
    return []


def bind(pid: int, core: int) -> None:
    """All threads that a process has so far."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def busy_at_steps(run: RunStore, trainer: subprocess.Popen[bytes], pids: Sequence[int]) -> list[float]:
    """Of each step behind the first, the seconds that the busiest of its processes took of a processor."""
    processes, found, size = [psutil.Process(pid) for pid in pids], list[list[float]](), 0
    while trainer.poll() is None:
        time.sleep(TICK_S)
        if not run.metrics_jsonl.exists() or run.metrics_jsonl.stat().st_size == size:
            continue
        size = run.metrics_jsonl.stat().st_size
        try:
            found.append([used.user + used.system for used in (process.cpu_times() for process in processes)])
        except psutil.Error:  # it has ended
            break
    return [max(now - before for before, now in zip(*both, strict=True)) for both in pairwise(found)]


def _busy_s() -> float:
    """Seconds of processors that were not idle, since the machine was started."""
    found = psutil.cpu_times()
    return float(sum(found) - found.idle - found.iowait - getattr(found, "guest", 0) - getattr(found, "guest_nice", 0))


def _own_s() -> float:
    """Seconds of processors that children of this process took which have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
