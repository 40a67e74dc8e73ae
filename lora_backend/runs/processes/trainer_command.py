"""The command and the variables with which a run's trainer is started. What a copied folder says of them is not believed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lora_backend.hardware.visible import ORDER, VISIBLE
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.runs.record.seal import is_sealed

MODULE = ["-m", "lora_backend"]


def trainer_command(path: Path) -> list[str]:
    """The command line of the process that trains the run in `path`."""
    return [sys.executable, *MODULE, "train", str(path / "config.yaml"), "--run-dir", str(path)]


def demo_command(path: Path) -> list[str]:
    """The same for the demo, which prepares its model first."""
    return [sys.executable, *MODULE, "demo", "--train", "--run-dir", str(path)]


def command_of(folder: RunFolder) -> list[str]:
    """The command that starts the trainer of a run: the launcher's own, else one that is made anew."""
    run = folder.read_run()
    argv: Any = run.get("argv")
    is_resumed = "argv" in folder.attempt()
    if is_sealed(folder.path, argv, run.get("argv_seal")) and not (is_resumed and not _trains_in(argv, folder.path)):
        return list(argv)
    is_demo = isinstance(argv, list) and argv[1:4] == [*MODULE, "demo"]
    return demo_command(folder.path) if is_demo else trainer_command(folder.path)


def launched_here(folder: RunFolder) -> bool:
    """Whether this installation launched the run; False for a folder that was copied here."""
    run = folder.read_run()
    return is_sealed(folder.path, run.get("argv"), run.get("argv_seal"))


def environment_of(folder: RunFolder) -> dict[str, str]:
    """The variables of the newest start: which GPUs its trainer sees, and nothing else."""
    written: Any = folder.attempt().get("environment")
    values = written if isinstance(written, dict) else {}
    return {name: str(values[name]) for name in (ORDER, VISIBLE) if name in values and "\0" not in str(values[name])}


def _trains_in(argv: list[str], path: Path) -> bool:
    """Whether a command can be given again: one from a terminal may name no folder, a relative one, or settings."""
    names_folder = "--run-dir" in argv[:-1] and Path(argv[argv.index("--run-dir") + 1]) == path
    return names_folder and "--set" not in argv
