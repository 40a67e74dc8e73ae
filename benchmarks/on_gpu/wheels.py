"""Installs from a folder of wheels, without network, what this Python lacks: `python -m benchmarks.on_gpu.wheels FOLDER`.

What is there stays as it is, torch and transformers above all; a package that the folder does not have is told, and the
parts that need it are left out later.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
BESIDE = ("pytest", "trl")
"""Of the packages for tests: what a part runs with, and what it is held against."""
ONLY_SCREENS = ("streamlit", "plotly", "watchdog")
Run = Callable[[Sequence[str]], int]


def wanted() -> list[str]:
    """Names of what training needs."""
    names = re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    return [name for name in [*names, *BESIDE] if name.lower() not in ONLY_SCREENS]


def is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def install(folder: str, run: Run, installed: Callable[[str], bool] = is_installed) -> Iterator[str]:
    """Install each package that is missing; yields a sentence for each that cannot be."""
    for name in wanted():
        if installed(name):
            continue
        asked = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
        if run([*asked, "--find-links", folder, name]):
            yield f"{name} is not installed, and cannot be from {folder}"


if __name__ == "__main__":
    for sentence in install(sys.argv[1], lambda command: subprocess.run(command, check=False).returncode):
        print(sentence)
