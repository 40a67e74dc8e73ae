"""The demo's adapter merged by `ship` and by PEFT's `merge_and_unload`, tensor by tensor; and how much memory the merge takes.

    python -m benchmarks.demo_merge RUN_FOLDER

`RUN_FOLDER`: of a demo that has finished (`python -m lora_backend demo --train --run-dir RUN_FOLDER`). Merged in fp32, in bf16
from the base model's fp32, and from a copy of the base model in bf16. PEFT loads the same base model in the dtype of the
export and merges there; and in fp32, each tensor rounded afterwards. A unit in the last place (ulp) is that of the largest of
both numbers and the base model's. Memory: what merge and check hold resident at most over the start, mapped files
included, as `benchmarks.merge_memory` samples it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from benchmarks.merge_memory import measured_merge
from lora_backend.clock import machine_clock
from lora_backend.modeling.devices import DTYPES
from lora_backend.runs.record.run_store import RunStore
from lora_backend.shipping.merged_weights import ulps_apart

Tensors = dict[str, torch.Tensor]


def main(words: Sequence[str] = ()) -> None:
    """Print a line for each merge."""
    run = RunStore(Path((words or sys.argv[1:])[0]).resolve(), machine_clock)
    base = Path(run.read_record().config["model_name"])
    print(
        "base model | merged | tensors | against PEFT in that dtype | against PEFT in fp32, rounded | most resident / shard"
    )
    with tempfile.TemporaryDirectory(prefix="demo-merge-") as name:
        half = Path(name) / "base-in-bf16"
        loaded(base, torch.bfloat16).save_pretrained(half)
        for subject, word in ((base, "fp32"), (base, "bf16"), (half, "bf16")):
            folder = Path(name) / f"{subject.name}-{word}"
            folder.mkdir()
            (folder / "base").symlink_to(subject)
            put_on(subject, run.adapter, folder / "adapter")
            print(one_merge(folder, word), flush=True)


def put_on(base: Path, adapter: Path, copy: Path) -> None:
    """A copy of the adapter that names `base` as its base model, without the record of the one that it was trained on."""
    shutil.copytree(adapter, copy, ignore=lambda *_: ["flightdeck.json"])
    path = copy / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(base)}))


def one_merge(folder: Path, word: str) -> str:
    """Of `base` and `adapter` of a folder, in one dtype."""
    base, adapter, dtype = (folder / "base").resolve(), folder / "adapter", DTYPES[word]
    ours, before = shipped(base, adapter, word, folder), loaded(base, dtype).state_dict()
    in_dtype = told(ours, by_peft(base, adapter, dtype), before)
    rounded = told(
        ours, {name: value.to(dtype) for name, value in by_peft(base, adapter, torch.float32).items()}, before
    )
    found = measured_merge(folder, word)
    peak, shard = found["peak_bytes"] / 2**20, found["shard_bytes"] / 2**20
    return f"{base.name} | {word} | {len(ours)} | {in_dtype} | {rounded} | {peak:.0f} of {shard:.0f} MiB: {peak / shard:.2f}"


def shipped(base: Path, adapter: Path, dtype: str, folder: Path) -> Tensors:
    """What the command writes, as transformers loads it."""
    output = folder / "shipped"
    command = [sys.executable, "-m", "lora_backend", "ship", str(adapter), "--to", "merged", "--model", str(base)]
    command += ["--dtype", dtype, "--output", str(output), "--json"]
    environment = {**os.environ, "FLIGHTDECK_WORKSPACE": str(folder / "workspace")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    for proof in json.loads(done.stdout)["proofs"]:
        print(f"{dtype}: {proof['code']}, passed {proof['passed']}: {proof['message']}")
    return loaded(output, DTYPES[dtype]).state_dict()  # type: ignore[no-any-return]


def by_peft(base: Path, adapter: Path, dtype: torch.dtype) -> Tensors:
    """As anybody merges it."""
    model: Any = PeftModel.from_pretrained(loaded(base, dtype), adapter)
    return model.merge_and_unload().state_dict()  # type: ignore[no-any-return]


def loaded(folder: Path, dtype: torch.dtype) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def told(ours: Tensors, theirs: Tensors, before: Tensors) -> str:
    """How many tensors differ, and by how much at most. `before`: the base model's."""
    assert ours.keys() == theirs.keys()
    differing = {name: value for name, value in ours.items() if not torch.equal(value, theirs[name])}
    if not differing:
        return "equal to the bit"
    furthest = max(ulps_apart(value, theirs[name], before[name]) for name, value in differing.items())
    numbers = sum(int((value != theirs[name]).sum()) for name, value in differing.items())
    share = numbers / sum(value.numel() for value in differing.values())
    return f"{len(differing)} tensors differ, in {100 * share:.2f} % of their numbers, by at most {furthest:.2f} ulp"


if __name__ == "__main__":
    main(sys.argv[1:])
