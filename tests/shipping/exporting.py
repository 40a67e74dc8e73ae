"""Exports that are killed at any moment: a job's process, forked from one that has torch imported already; and what lies there."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

from lora_backend.installation import SUPERVISED
from lora_backend.runs.record.run_store import RunStore
from lora_backend.shipping.staged_export import LEFT_OVER
from lora_backend.verification.passport import file_sha256


def export_main(path: str) -> None:
    """What `python -m lora_backend job PATH` does, in a session of its own, its words in the log."""
    from lora_backend.cli import main

    os.setsid()
    os.environ[SUPERVISED] = "1"
    folder = RunStore(Path(path))
    log = os.open(folder.train_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(main(["job", path]))


def started(folder: RunStore) -> BaseProcess:
    """The job's process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lora_backend.shipping.export_job"])
    process: BaseProcess = context.Process(target=export_main, args=(str(folder.path),))
    process.start()
    return process


def written(folder: Path) -> int | None:
    """Bytes in the folder in which an export is made; None where there is none."""
    for part in folder.iterdir():
        if LEFT_OVER.fullmatch(part.name):
            try:
                return sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
            except FileNotFoundError:
                return None
    return None


def content(path: Path) -> dict[str, str | None]:
    return {file.name: file_sha256(file) for file in ([path] if path.is_file() else sorted(path.iterdir()))}
