"""The minor release of transformers before the pinned one trains alike: the proof against its own Trainer holds with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Figures = Callable[[str], None]
HELD = ("tests/training/test_like_trainer.py", "tests/training/test_resume.py")
"""The proof, and resumes at every boundary."""


def version_before() -> str:
    """As pip takes it; no first minor release has one before it that pip could be told of so."""
    major, minor, *_ = version("transformers").split(".")
    assert minor != "0", "name the last minor release of the major version before"
    return f"{major}.{int(minor) - 1}.*"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_loop_trains_like_the_trainer_of_the_release_before(tmp_path: Path, figures: Figures) -> None:
    wanted, place = version_before(), tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place)]
    installed = subprocess.run([*pip, f"transformers=={wanted}"], capture_output=True, text=True, check=False)
    if installed.returncode:
        said = f"transformers {wanted} COULD NOT BE INSTALLED, so nothing is known of it: {installed.stderr[-300:].strip()}"
        figures(said)
        pytest.skip(said)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)])}
    asked = "import transformers; print(transformers.__version__)"
    imported = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    assert imported.startswith(wanted.removesuffix("*")), "the other one is imported"
    held = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "not soak", *HELD],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert held.returncode == 0, held.stdout[-3000:]
    figures(f"transformers {imported}: trains like its own Trainer to the bit, and resumes at every boundary")
