"""What a machine finds of itself for the others: from a real config, model and data set."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import FlightdeckError
from lora_backend.installation import this_installation
from lora_backend.machines.compared import MachineFacts, difference, facts_of
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.resolve import resolve
from lora_backend.runs.record import provenance
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.peer_documents import MachineMeeting
from tests.tiny import chats, write_rows

Make = Callable[..., dict[str, Any]]


def found(values: dict[str, Any], node: int = 0) -> MachineFacts:
    meeting = MachineMeeting(node=node, endpoint="10.0.0.1:29500", code="a-code")
    attempt = Attempt(strategy="ddp", num_processes=1, num_nodes=2, meeting=meeting)
    here = this_installation()
    return facts_of(resolve(values, here, AnyPath(here.folder)), attempt)


def sentence(first: MachineFacts, second: MachineFacts) -> str:
    said = difference(first, second)
    assert said is not None
    return said.text("en")


def test_the_same_files_in_other_places_are_no_difference(config: Make, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "copy")
    shutil.copy(config()["dataset"], tmp_path / "copy.jsonl")
    there = config(model_name=str(tmp_path / "copy"), dataset=str(tmp_path / "copy.jsonl"), output_dir="elsewhere")
    assert difference(found(config()), found(there, 1)) is None
    sets = [{"path": config()["dataset"], "share": 1.0}]
    copied = [{"path": str(tmp_path / "copy.jsonl"), "share": 1.0}]
    mine, others = config(dataset=..., datasets=sets), config(dataset=..., datasets=copied)
    assert difference(found(mine), found(others, 1)) is None
    others["datasets"][0]["share"] = 2.0
    assert sentence(found(mine), found(others, 1)).startswith("`datasets` is ")


def test_what_is_otherwise_is_found(
    config: Make, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = found(config())
    assert sentence(first, found(config(r=8), 1)).startswith("`r` is 8 on machine 2")
    rows = write_rows(tmp_path / "other.jsonl", chats()[1:])
    assert sentence(first, found(config(dataset=str(rows)), 1)).startswith("The rows of `dataset` on machine 2")
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert "do not have the same weights of the base model" in sentence(first, found(config(model_name=str(model)), 1))
    monkeypatch.setattr(provenance, "version_of", lambda package: "0.0.1" if package == "peft" else None)
    assert "has peft 0.0.1, machine 1" in sentence(first, found(config(), 1))


@pytest.mark.parametrize("change", [{"r": "many"}, {"dataset": "/nowhere.jsonl"}, {"model_name": "/nowhere"}])
def test_what_is_missing_here_is_said_here(change: dict[str, Any], config: Make) -> None:
    with pytest.raises(FlightdeckError):
        found(config(**change))
