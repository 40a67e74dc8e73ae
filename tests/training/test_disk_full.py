"""When there is no room: what was whole stays whole, nothing half is left, and the run says why it ended.

A limit on the size of files fails a write in the same way as a full disk does, for one process alone.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lora_backend.config.config_writing import dump_yaml
from lora_backend.installation import child_environment
from lora_backend.runs.checkpoints.manifest import verified
from lora_backend.runs.record.run_store import RunStore
from tests.training.helpers import failed_run, run, until

Make = Callable[..., dict[str, Any]]
ROOM_BYTES = 12_000
"""Enough for the run's own small files, too little for an adapter or an optimizer."""


def test_the_checkpoints_before_stay_whole_and_the_one_that_failed_is_gone(
    config: Make, tmp_path: Path, workspace: Path, tiny_model: Path
) -> None:
    values = config(num_epochs=100_000, save_steps=40, save_total_limit=2, logging_steps=1000)
    (tmp_path / "config.yaml").write_text(dump_yaml(values))
    folder = RunStore(tmp_path / "full")
    command = ["-m", "lora_backend", "train", str(tmp_path / "config.yaml"), "--run-dir", str(folder.path), "--json"]
    trainer = subprocess.Popen(
        [sys.executable, *command], env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: (folder.checkpoints / "checkpoint-40" / "manifest.json").exists() or trainer.poll())
        resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (ROOM_BYTES, ROOM_BYTES))
        out, _ = trainer.communicate(timeout=90)
    finally:
        trainer.kill()
        trainer.wait()
    assert trainer.returncode == 1
    assert json.loads(out)["state"] == "failed"
    state = folder.state()
    assert (state.state, state.cause) == ("failed", "disk_full")
    assert state.message is not None
    sentence = state.message.text("en")
    assert "The disk is full" in sentence
    assert str(folder.checkpoints) in sentence
    kept = sorted(folder.checkpoints.iterdir(), key=lambda path: int(path.name.split("-")[1]))
    assert kept
    assert not any(path.name.startswith(".") for path in folder.path.iterdir())
    for checkpoint in kept:
        assert verified(checkpoint) == []
        assert json.loads((checkpoint / "state.json").read_text())["state"]["progress"]["step"] % 40 == 0
        assert load_file(checkpoint / "state.safetensors")
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), checkpoint / "adapter")
        assert any(bool(value.any()) for name, value in model.named_parameters() if "lora_B" in name)


class FullFrom(logging.Handler):
    """From the moment that a line is logged there is no more room."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == self.line:
            resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, resource.RLIM_INFINITY))


@pytest.fixture
def full_from() -> Iterator[Callable[[str], None]]:
    stages = logging.getLogger("lora_backend.training.run_context")
    handlers: list[logging.Handler] = []

    def start(line: str) -> None:
        handlers.append(FullFrom(line))
        stages.addHandler(handlers[-1])

    yield start
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for handler in handlers:
        stages.removeHandler(handler)


def test_an_adapter_for_which_there_is_no_room_leaves_nothing_half_written(
    config: Make, workspace: Path, full_from: Callable[[str], None]
) -> None:
    full_from("stage saving")
    folder, sentence = failed_run(workspace, config(), Exception)
    assert folder.state().cause == "disk_full"
    assert "disk is full" in sentence
    assert (folder.checkpoints / "checkpoint-16" / "adapter" / "adapter_model.safetensors").is_file(), (
        "the last checkpoint stays"
    )
    assert [path.name for path in folder.path.iterdir() if "adapter" in path.name] == []


def test_an_adapter_that_finds_no_room_where_it_is_published_leaves_the_old_one(
    config: Make, workspace: Path, full_from: Callable[[str], None]
) -> None:
    names = {"pkg": "shop", "version": "1", "overwrite": True, "r": 16}
    room_bytes = 40_000  # more than log and reports take, less than the adapter
    run(workspace, config(**names))
    published = workspace / "adapters/shop/1"
    before = (published / "adapter_model.safetensors").read_bytes()

    class AfterSaving(FullFrom):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("adapter saved"):
                resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, resource.RLIM_INFINITY))

    saving, handler = logging.getLogger("lora_backend.modeling.adapter"), AfterSaving("")
    full_from("never")
    saving.addHandler(handler)
    try:
        folder, _ = failed_run(workspace, config(**names, seed=7), Exception)
    finally:
        saving.removeHandler(handler)
    assert folder.state().cause == "disk_full"
    assert (folder.adapter / "adapter_model.safetensors").is_file(), "what was trained is kept in the run"
    assert (published / "adapter_model.safetensors").read_bytes() == before
    assert [path.name for path in published.parent.iterdir()] == ["1"]
