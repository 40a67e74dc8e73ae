"""The command and the variables with which a run's trainer is started. What a copied folder says of them is not believed."""

from __future__ import annotations

import sys
from pathlib import Path

from lora_backend.errors import RunError
from lora_backend.hardware.visible import ORDER, VISIBLE
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.seal import is_sealed

MODULE = ["-m", "lora_backend"]


def trainer_command(path: Path) -> list[str]:
    """The command line of the process that trains the run in `path`."""
    return [sys.executable, *MODULE, "train", str(path / "config.yaml"), "--run-dir", str(path)]


def demo_command(path: Path) -> list[str]:
    """The same for the demo, which prepares its model first."""
    return [sys.executable, *MODULE, "demo", "--train", "--run-dir", str(path)]


def command_of(folder: RunStore, installation: Installation) -> list[str]:
    """The command that does what a run does: the launcher's own; for a training else one that is made anew.

    Raises `RunError` for another kind of run whose command this installation has not written.
    """
    run = folder.read_record()
    argv = run.argv or []
    is_resumed = folder.read_attempt().argv is not None
    if is_sealed(folder.path, run.argv, run.argv_seal, installation.seal_key) and not (
        is_resumed and not _trains_in(argv, folder.path)
    ):
        return argv
    if run.kind != "train":
        raise RunError(
            N_("Run {id} was not started on this machine, so its command is not run. Start it again here."),
            id=folder.id,
        )
    is_demo = argv[1:4] == [*MODULE, "demo"]
    return demo_command(folder.path) if is_demo else trainer_command(folder.path)


def launched_here(folder: RunStore, installation: Installation) -> bool:
    """Whether this installation launched the run; False for a folder that was copied here."""
    run = folder.read_record()
    return is_sealed(folder.path, run.argv, run.argv_seal, installation.seal_key)


def environment_of(folder: RunStore) -> dict[str, str]:
    """The variables of the newest start: which GPUs its trainer sees, and nothing else."""
    values = folder.read_attempt().environment
    return {name: values[name] for name in (ORDER, VISIBLE) if name in values and "\0" not in values[name]}


def _trains_in(argv: list[str], path: Path) -> bool:
    """Whether a command can be given again: one from a terminal may name no folder, a relative one, or settings."""
    names_folder = "--run-dir" in argv[:-1] and Path(argv[argv.index("--run-dir") + 1]) == path
    return names_folder and "--set" not in argv
