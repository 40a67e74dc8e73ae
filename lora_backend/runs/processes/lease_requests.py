"""A run asks whoever tries a model on its GPU to give it up: by a file beside the lease, which that process looks for.

`<workspace>/leases/<key>.wanted` says which run. It means something for as long as that run waits for that GPU or trains
on it, so nobody has to take it away: a run that was cancelled, moved or has ended wants nothing any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lora_backend.atomic import write_json
from lora_backend.errors import RunError
from lora_backend.installation import CHATS
from lora_backend.runs.processes.leases import CPU, Holder, file_stem, holders, lease_keys
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import ENDED

GIVEN_UP_WITHIN_S = 10.0
"""A process that tries a model gives its GPU up within this time, in the middle of an answer too."""
LOOK_EVERY_S = 0.25


def ask_for(folder: Path, keys: Iterable[str], run: Path) -> None:
    """Ask for these GPUs where a process that tries a model has them. Nobody gives up the CPU: there one shares it."""
    for key in keys:
        if key != CPU and any(is_chat(holder) for holder in holders(folder, [key])):
            with suppress(OSError):  # on a full disk one waits until it is idle
                write_json(_path(folder, key), {"run": run.name, "path": str(run)})


def is_chat(holder: Holder) -> bool:
    """Whether a lease is held by a process that tries a model, and not by a run."""
    return holder.path.name == CHATS


def is_wanted(folder: Path, key: str) -> str | None:
    """The id of the run that wants this GPU, or has it since it asked; None where none does."""
    path = _path(folder, key)
    if not path.exists():
        return None
    run = RunStore(folder.parent / "runs" / Path(str((read_json(path) or {}).get("path", "–"))).name)
    try:
        wants = run.run_json.exists() and run.state().state not in ENDED and key in lease_keys(run.read_attempt())
    except RunError:
        wants = False
    if wants:
        return run.id
    with suppress(OSError):
        path.unlink()
    return None


def wait_for_chats(folder: Path, keys: Iterable[str], run: Path) -> None:
    """Ask for these GPUs, and wait until processes that try a model have given them up, ten seconds at most."""
    wanted, deadline = [key for key in keys if key != CPU], time.monotonic() + GIVEN_UP_WITHIN_S
    ask_for(folder, wanted, run)
    while any(map(is_chat, holders(folder, wanted))) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)


def _path(folder: Path, key: str) -> Path:
    return folder / f"{file_stem(key)}.wanted"
