"""What only a GPU can show, in under eight minutes: `make gpu [OUT=file.json] [WHEELS=folder]`, or `python -m benchmarks.gpu [FILE]`.

Trains in bf16 and nf4, holds the plan against the allocator and NVML, flat against padded, fused LoRA against PEFT's, a
resume against the run that was not stopped, a layer split against one device, and measures tokens per second of
Qwen2.5-7B's public config with random weights beside TRL. Needs no network. Prints one table and writes one JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.on_gpu.card import Card, CudaCard, machine_of
from benchmarks.on_gpu.outcome import Outcome, document, table
from benchmarks.on_gpu.parts import PARTS, act_safely
from benchmarks.on_gpu.running import Runner, in_its_own_process, run_all
from benchmarks.on_gpu.sizes import ON_CARD, Sizes

DEFAULT_OUT = Path("gpu.json")


def card_here() -> Card | None:
    """None where torch sees no GPU."""
    import torch

    return CudaCard() if torch.cuda.is_available() else None


def main(words: Sequence[str], card: Card | None, sizes: Sizes = ON_CARD, run: Runner | None = None) -> int:
    """`run`: in place of processes of its own. 1 where a part fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=DEFAULT_OUT, help="where the JSON is written")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], help="these parts alone")
    parser.add_argument("--part", nargs=3, metavar=("NAME", "FOUND", "OUTCOME"), help=argparse.SUPPRESS)
    asked = parser.parse_args(list(words))
    if asked.part:
        name, found, out = asked.part
        _one(name, found, out, card, sizes)
        return 0
    if card is None:
        print("There is no NVIDIA GPU here that torch sees, so nothing is measured.")
        return 0
    machine = machine_of(card)
    print(f"{card.name}, {len(card.devices)} GPU(s), CUDA {machine['cuda']}")
    for line in machine["other_than_pinned"]:
        print(f"other than pinned: {line}")
    parts = [part for part in PARTS if not asked.only or part.name in asked.only]
    outcomes = run_all(parts, run or in_its_own_process([sys.executable, "-m", "benchmarks.gpu"]))
    print(table(outcomes))
    asked.out.write_text(json.dumps(document(machine, outcomes), indent=1) + "\n", "utf-8")
    print(f"Written to {asked.out.resolve()}")
    return int(any(outcome.verdict == "fails" for outcome in outcomes))


def _one(name: str, found: str, out: str, card: Card | None, sizes: Sizes) -> None:
    part = next(part for part in PARTS if part.name == name)
    before = {one["part"]: Outcome(**one) for one in json.loads(Path(found).read_text())}
    outcome = act_safely(part, card, sizes, before)
    Path(out).write_text(json.dumps(asdict(outcome)), "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], card_here()))
