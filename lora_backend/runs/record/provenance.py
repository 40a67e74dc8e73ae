"""Who acts, and what a run was made by: versions, Python, platform, and the commit of the program, so that it can be repeated."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from lora_backend.runs.record.documents import CodeVersion

RECORDED_PACKAGES = (
    "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "numpy", "bitsandbytes",
    "streamlit",
)  # fmt: skip
PROGRAM = Path(__file__).parents[2]
"""The folder of this package: what trains a run is started from it."""
GIT_TIMEOUT_S = 2.0
"""A repository on a drive that does not answer holds up a launch no longer than this, twice."""


class MadeBy(TypedDict):
    """What a run, or a start of it, was made by; `RunRecord` and `Attempt` have the same fields."""

    versions: dict[str, str | None]
    python: str
    platform: str
    code: CodeVersion | None


def provenance(program: Path = PROGRAM) -> MadeBy:
    """For `run.json`. Never raises: what cannot be told is None."""
    return {
        "versions": {name: version_of(name) for name in RECORDED_PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "code": code_of(program),
    }


def version_of(package: str) -> str | None:
    """The version that is installed; None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def code_of(program: Path = PROGRAM) -> CodeVersion | None:
    """The commit of the repository that holds `program`.

    `is_modified`: something in that folder is not as in the commit; None where git does not say. None as a whole
    without git, and for a folder that no commit holds, such as an installed package below somebody else's checkout.
    """
    found = _git(program, "rev-parse", "HEAD", "HEAD:./")
    if not found:
        return None
    changes = _git(program, "status", "--porcelain", "--", ".")
    return CodeVersion(commit=found.split()[0], is_modified=None if changes is None else bool(changes))


def _git(folder: Path, *words: str) -> str | None:
    # Variables of a hook or a worktree would point git at another repository than the folder's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT_S,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def system_user() -> str:
    """Who acts, as the operating system says."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
