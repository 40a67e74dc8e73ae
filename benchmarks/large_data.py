"""Anonymous memory (RssAnon) of a trainer over its first 20 steps on a JSONL of 2 GB, beside one of 20 MB.

A tiny model, a process for each file, the same settings. `MEGABYTES=200 python -m benchmarks large_data` takes a smaller
file than 2 GB.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from lora_backend.installation import child_environment
from tests.tiny import ANSWERS, QUESTIONS, make_model

SMALL_BYTES = 20 * 10**6
LARGE_BYTES = int(os.environ.get("MEGABYTES", "2000")) * 10**6
STEPS, BATCH_SIZE = 20, 4
EVERY_S = 0.01


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = make_model(place / "model")
        found = []
        for name, size in (("small", SMALL_BYTES), ("large", LARGE_BYTES)):
            data = place / f"{name}.jsonl"
            num_rows = write_chats(data, size)
            told = _trained_apart(place / name, model, data)
            data.unlink()
            found.append(told["steps"])
            print(
                f"{size / 1e6:.0f} MB, {num_rows} chats: RssAnon at most {told['steps']:.0f} MiB in the first {STEPS} steps, {told['start']:.0f} MiB while the rows were read; read in {told['read_s']:.0f} s"
            )
        print(f"more for the large file: {found[1] - found[0]:+.0f} MiB")


def write_chats(path: Path, size: int) -> int:
    """Chats of 300 to 800 bytes until the file is so large; returns their number."""
    chance, written, count = random.Random(0), 0, 0
    with path.open("wb") as file:
        while written < size:
            turns: list[dict[str, str]] = []
            for _ in range(chance.randint(2, 5)):
                turns.append({"role": "user", "content": " ".join(chance.choices(QUESTIONS, k=2))})
                turns.append({"role": "assistant", "content": " ".join(chance.choices(ANSWERS, k=2))})
            written += file.write(json.dumps({"messages": turns, "id": count}).encode() + b"\n")
            count += 1
    return count


def _trained_apart(workspace: Path, model: Path, data: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", "from benchmarks.large_data import train_here; train_here()"]
    places = {name: str(workspace) for name in ("FLIGHTDECK_WORKSPACE", "FLIGHTDECK_HOME")}
    places |= {"FLIGHTDECK_MODEL_ROOTS": str(model.parent), "FLIGHTDECK_DATA_ROOTS": str(data.parent)}
    done = subprocess.run(
        [*command, str(model), str(data)],
        env=child_environment(**places),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def train_here() -> None:
    """What the process of its own does: `STEPS` steps, and a line with what they took."""
    from lora_backend.installation import this_installation
    from lora_backend.trainer.direct_run import train_in_folder
    from tests.run_files import make_run

    model, data = sys.argv[1:]
    values = {
        "model_name": model, "dataset": data, "r": 4, "max_steps": STEPS, "batch_size": BATCH_SIZE, "precision": "fp32",
        "max_length": 128, "save_steps": 1000, "logging_steps": 1,
    }  # fmt: skip
    folder = make_run(this_installation().runs, config=values, config_text=json.dumps(values), argv=None)
    watched = _Watched()
    logging.getLogger("lora_backend").addHandler(watched)
    train_in_folder(folder)
    print(json.dumps({name: peak / 1024 for name, peak in watched.peaks.items()} | {"read_s": watched.read_s}))


class _Watched(logging.Handler):
    """The peak of RssAnon before the first step and over the steps, in KiB."""

    def __init__(self) -> None:
        super().__init__()
        self.peaks = {"start": 0, "steps": 0}
        self.read_s = 0.0
        self._part: str | None = "start"
        self._began = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if said == "stage loading":
            self.read_s = time.monotonic() - self._began
        elif said == "stage training":
            self._part = "steps"
        elif said.startswith("stage training took"):
            self._part = None

    def _watch(self) -> None:
        while True:
            part = self._part
            if part is not None:
                self.peaks[part] = max(self.peaks[part], anonymous_kib())
            time.sleep(EVERY_S)


def anonymous_kib() -> int:
    """RssAnon of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
