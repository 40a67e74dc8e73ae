"""How much memory a sharded merge takes, of made-up checkpoints in several shards: against the largest shard and one layer.

    python -m benchmarks.merge_memory --shard-mib 100 --shards 5

A child process imports torch, plans the merge, and then merges and checks; what it holds resident is sampled every
millisecond, mapped files included, over what it held before the first tensor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.made_up_model import make_sharded

MIB = 2**20


def main(words: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merge_memory")
    parser.add_argument("--shard-mib", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--shards", type=int, default=4)
    asked = parser.parse_args(list(words))
    print("largest shard | largest layer, fp32 | resident over the start, at most | of it, of the shard | seconds")
    for mib in asked.shard_mib:
        with tempfile.TemporaryDirectory(prefix="merge-memory-") as folder:
            found = measured(Path(folder), mib * MIB, asked.shards)
        shard, layer, peak = (found[key] / MIB for key in ("shard_bytes", "layer_bytes", "peak_bytes"))
        print(
            f"{shard:.0f} MiB | {layer:.0f} MiB | {peak:.0f} MiB | {peak / shard:.2f} | {found['seconds']:.1f}",
            flush=True,
        )


def measured(folder: Path, shard_bytes: int, num_shards: int) -> dict[str, float]:
    """Merge a made-up checkpoint in a child process."""
    make_sharded(folder, shard_bytes, num_shards)
    return measured_merge(folder)


def measured_merge(folder: Path, dtype: str = "") -> dict[str, float]:
    """Merge `adapter` into `base` of a folder in a child process, in the base model's dtype or in a word of `ship --dtype`."""
    child = [sys.executable, "-m", "benchmarks.merge_memory", "--child", str(folder), dtype]
    done = subprocess.run(child, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(folder: Path, dtype: str) -> None:
    """What the child process does and prints."""
    from transformers import AutoConfig

    from lora_backend.modeling.live_tree import tree_of_model
    from lora_backend.modeling.meta import build_base
    from lora_backend.planning.cost.trace_settings import TraceSettings
    from lora_backend.shipping.adapter_changes import read_changes, ties_with
    from lora_backend.shipping.checkpoint_names import checkpoint_names
    from lora_backend.shipping.merged_proof import tensors_proof
    from lora_backend.shipping.merging import WORDS
    from lora_backend.shipping.sharded_merge import ShardPlan, merge_shards, plan_shards
    from lora_backend.shipping.weight_files import WeightFiles

    AutoConfig.from_pretrained(folder / "base")
    files = WeightFiles(folder / "base")
    base = build_base(json.loads((folder / "base/config.json").read_text()), TraceSettings())
    names = checkpoint_names(base, files.places).one_to_one
    changes = read_changes(base, folder / "adapter").by_parameter
    ties = ties_with(tree_of_model(base), (), changes, names)
    plan = plan_shards(files, changes, names, ties, WORDS[dtype] if dtype else None)
    assert isinstance(plan, ShardPlan)
    (folder / "merged").mkdir()
    warm_up()
    began = time.monotonic()
    with peak_resident() as peak:
        merge_shards(plan, folder / "merged", lambda _: None)
        proof = tensors_proof(plan, folder / "merged", lambda _: None)
    assert proof.passed, proof.message.text()
    found = {
        "shard_bytes": max(path.stat().st_size for path in files.files),
        "layer_bytes": max(2 * info.size_bytes for header in files.headers.values() for info in header.values()),
        "peak_bytes": peak(),
        "seconds": time.monotonic() - began,
    }
    print(json.dumps(found))


def warm_up() -> None:
    """What the first product loads of the library is no memory of a merge."""
    import torch

    from lora_backend.shipping.merged_weights import LowRank, merged

    change = LowRank("", torch.ones(8, 256), torch.ones(256, 8), 1.0, "linear")
    merged(torch.ones(256, 256, dtype=torch.bfloat16), change).to(torch.bfloat16)


@contextmanager
def peak_resident() -> Iterator[Callable[[], int]]:
    """Within the block; then how much more was resident at most than at its beginning."""
    import psutil

    process, ended = psutil.Process(), threading.Event()
    start = most = process.memory_info().rss

    def sample() -> None:
        nonlocal most
        while not ended.wait(0.001):
            most = max(most, process.memory_info().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield lambda: most - start
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3])
    else:
        main(sys.argv[1:])
