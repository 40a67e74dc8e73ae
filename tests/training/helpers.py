"""Make a run in this process and look at how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.files import dump_yaml
from lora_backend.errors import FlightdeckError
from lora_backend.runs.folder import RunFolder
from lora_backend.training.run import train_in_folder


def made(workspace: Path, values: dict[str, Any], name: str | None = None, argv: list[str] | None = None) -> RunFolder:
    """The folder of a run that nobody has started."""
    path = workspace / "runs" / name if name else None
    text = dump_yaml(values)
    return RunFolder.create(workspace / "runs", config=values, config_text=text, argv=argv, path=path)


def run(workspace: Path, values: dict[str, Any]) -> RunFolder:
    """Train in this process."""
    folder = made(workspace, values)
    train_in_folder(folder)
    return folder


def failed_run(
    workspace: Path, values: dict[str, Any], error: type[Exception] = FlightdeckError
) -> tuple[RunFolder, str]:
    """A run that must fail with `error`: the sentence of its state, and the traceback in its log alone."""
    folder = made(workspace, values)
    with pytest.raises(error):
        train_in_folder(folder)
    state = folder.state()
    assert state.state == "failed"
    assert state.message is not None
    sentence = state.message.text("en")
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert "Traceback" in folder.train_log.read_text()
    return folder, sentence


def until(condition: Callable[[], Any], limit_s: float = 90.0) -> Any:
    """What `condition` gives once it is true; fails when it is not within `limit_s`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {limit_s} s: {condition}")
