"""Python in a process of its own, from the clone."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def call(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)


def limited(script: str, *, memory_bytes: int | None = None, file_bytes: int | None = None) -> str:
    """What a script prints that may have so much memory, or write so much into one file, as where a disk is full.

    A write beyond that is an `OSError` there, as on a disk; unlimited it would end the process.
    """

    def limit() -> None:
        if memory_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    ignored = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    done = subprocess.run(
        [sys.executable, "-c", ignored + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=limit,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout
