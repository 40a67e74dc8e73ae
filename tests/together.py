"""Start processes that train together over gloo, as torchrun would: each runs one function with its peers."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lora_backend.installation import child_environment, this_installation
from lora_backend.peers.peers import joined

LIMIT_S = 600.0
"""Nothing here takes a tenth of it, unless the machine has much else to do."""


def together(function: str, folder: Path, size: int = 2) -> None:
    """Run `function`, as in `tests.training.peer_jobs:train_all`, with (peers, folder) in `size` processes.

    Fails with their last words where one of them ends with an error, or they hang; none is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f"rank{rank}.log" for rank in range(size)]
    port = str(_free_port())
    with contextlib.ExitStack() as open_files:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.together", function, str(folder)],
                env=child_environment(**_place(rank, size, port)),
                stdout=open_files.enter_context(log.open("w")),
                stderr=subprocess.STDOUT,
            )
            for rank, log in enumerate(logs)
        ]
        try:
            codes = _ended(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    if any(codes):
        words = "\n".join(f"--- rank {rank}\n{log.read_text()[-3000:]}" for rank, log in enumerate(logs))
        pytest.fail(f"the processes ended with {codes} (None: they hung)\n{words}")


def _ended(processes: list[subprocess.Popen[bytes]]) -> list[int | None]:
    """How each ended; the others are not waited for where one has failed."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        codes = [process.poll() for process in processes]
        if None not in codes or any(codes):
            return codes
        time.sleep(0.02)
    return [process.poll() or -1 for process in processes]


def _place(rank: int, size: int, port: str) -> dict[str, str]:
    """What torchrun tells it."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    module, name = sys.argv[1].split(":")
    act = getattr(importlib.import_module(module), name)
    with joined(this_installation().peer) as peers:
        act(peers, Path(sys.argv[2]))
    # Gone at once: of many such processes one was seen to abort while its libraries' threads were taken down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
