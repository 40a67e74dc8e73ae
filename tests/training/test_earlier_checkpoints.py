"""Checkpoints of an earlier version: no run goes on from one, which is said in a sentence; their adapters are read as ever."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lora_backend.cli import main
from lora_backend.errors import RunError
from lora_backend.runs.checkpoints.manifest import checkpoints_of, newest_whole
from lora_backend.runs.foreign.foreign_folder import open_folder
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import points_of
from tests.training.helpers import resumed, stopped_at

Make = Callable[..., dict[str, Any]]
EARLIER = Path(__file__).parents[1] / "runs/fixtures/stopped/checkpoints"


@pytest.fixture
def stopped(config: Make, workspace: Path) -> RunStore:
    """A stopped run whose checkpoints an earlier version wrote."""
    folder = stopped_at(workspace, config(num_epochs=8, lora_dropout=0.1), 2)
    shutil.rmtree(folder.checkpoints)
    shutil.copytree(EARLIER, folder.checkpoints)
    return folder


def test_the_trainer_refuses_one_in_a_sentence_and_touches_nothing(stopped: RunStore) -> None:
    newest, damaged = newest_whole(stopped)
    assert newest is not None
    assert damaged == [], "whole as that version wrote it"
    before = checkpoints_of(stopped), points_of(stopped)
    with pytest.raises(RunError, match=rf"{newest.name} was written by an earlier version.*Start a new run") as raised:
        resumed(stopped)
    assert str(newest) in str(raised.value)
    assert stopped.state().state == "failed"
    assert (checkpoints_of(stopped), points_of(stopped)) == before


def test_a_resume_is_refused_before_anything_is_started(
    stopped: RunStore, capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    about = json.loads(stopped.run_json.read_text())
    stopped.run_json.write_text(json.dumps(about | {"argv": ["python", "-m", "lora_backend"]}))
    attempts = list(stopped.attempts.iterdir())
    assert main(["runs", "resume", stopped.id, "--json", "--lang", "en"]) == 1
    assert "was written by an earlier version" in json.loads(capsys.readouterr().out)["error"]
    assert list(stopped.attempts.iterdir()) == attempts


def test_its_adapter_loads_and_verifies(
    stopped: RunStore, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = checkpoints_of(stopped)[-1]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), newest)
    assert any(bool(value.any()) for name, value in model.named_parameters() if "lora_B" in name)
    assert main(["verify", str(newest), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_consistent"]
    assert open_folder(stopped.path).adapter == newest


def test_the_adapter_of_a_checkpoint_of_today_is_found_in_it(
    config: Make, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped_at(workspace, config(), 2)
    newest = checkpoints_of(folder)[-1]
    assert main(["verify", str(newest), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_consistent"]
    found = open_folder(folder.path)
    assert (found.adapter, [one.has_adapter for one in found.checkpoints]) == (newest / "adapter", [True])
    alone = open_folder(newest)
    assert (alone.adapter, alone.step) == (newest / "adapter", 3)
