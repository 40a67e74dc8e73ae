"""A run that waits is moved to other GPUs, through the real driver interface over simulated ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lora_backend.hardware.inventory import Gpu, GpuInventory
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.requeue import move_run
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.runs.processes.leases import lease_keys
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import StateError
from lora_backend.runs.record.transitions import request_stop
from tests.hardware.nvml import result_of, stub_environment
from tests.preflight.small_model import FACTS
from tests.run_files import add_start, attempt_of, make_run, start_again

GPUS = """
gpu name=NVIDIA RTX A, uuid=GPU-a, gib=24, cc=8.6
gpu name=NVIDIA RTX B, uuid=GPU-b, gib=24, cc=8.6
gpu name=NVIDIA RTX C, uuid=GPU-c, gib=1, cc=8.6
"""
IMPORTS = """
import os
from pathlib import Path
from lora_backend.errors import FlightdeckError
from lora_backend.modeling.profiling import profile_for
from lora_backend.preflight.start_plan import plan_attempt
from lora_backend.launching.requeue import move_run
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.processes.leases import take
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.processes.waiting import entries, leases_folder
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.installation import this_installation
from lora_backend.runs.record.transitions import add_attempt, request_stop
from tests.resolving import from_here
from tests.run_files import attempt_of, make_run

def moved(values, choices):
    installation = this_installation()
    taken = take(leases_folder(installation.workspace), ["GPU-a", "GPU-b"], Path("another"))
    run = make_run(installation.runs, config=values, config_text="", argv=["true"], state="queued")
    add_attempt(run, plan_attempt(from_here(values), profile_for))
    start_or_queue(run, installation.workspace)
    found = [(None, attempt_of(run), "")]
    for uuids in choices:
        try:
            move_run(run, installation, BrowserRoots(installation), profile_for, uuids)
            error = ""
        except FlightdeckError as caught:
            error = str(caught)
        (entry,) = entries(installation.workspace)
        found.append((entry.keys, attempt_of(run), error))
    request_stop(run)
    return found
"""


def test_it_waits_for_the_gpus_that_it_is_moved_to_and_for_those_before_where_it_cannot(tmp_path: Path) -> None:
    environment = stub_environment(tmp_path, GPUS)
    environment |= {"FLIGHTDECK_WORKSPACE": str(tmp_path / "ws"), "FLIGHTDECK_HOME": str(tmp_path / "home")}
    (tmp_path / "config.json").write_text(json.dumps(FACTS))
    values = {"model_name": str(tmp_path / "config.json"), "batch_size": 1, "max_length": 512}
    choices = [["GPU-b"], ["GPU-c"], ["GPU-x"], []]
    before, moved, *refused = result_of(f"moved({values!r}, {choices!r})", environment, IMPORTS)
    assert before[1]["device_uuids"] == ["GPU-a"]
    keys, attempt, error = moved
    assert (keys, attempt["device_uuids"], error) == (("GPU-b",), ["GPU-b"], "")
    assert attempt["environment"]["CUDA_VISIBLE_DEVICES"] == "GPU-b", "its trainer sees no other"
    for (keys, attempt, error), said in zip(refused, ("does not fit", "GPU-x", "does not show"), strict=True):
        assert said in error
        assert (keys, attempt["device_uuids"]) == (("GPU-b",), ["GPU-b"]), "it waits for what it waited for"


@pytest.fixture
def places(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """A machine with one GPU, where a run that is moved there is not started."""
    inventory = GpuInventory((Gpu(0, "GPU-b", "B", 100, 0, (8, 0)),))
    monkeypatch.setattr("lora_backend.launching.requeue.read_gpus", lambda: inventory)
    monkeypatch.setattr("lora_backend.launching.requeue.start_or_queue", lambda *_: False)
    return this_installation(os.environ)


def waiting(places: Installation, **attempt: Any) -> RunStore:
    run = make_run(places.runs, config={"model_name": "m"}, config_text="", argv=["true"], state="queued")
    add_start(run, device_uuids=["GPU-a"], **attempt)
    return run


def test_a_plan_is_not_used_for_settings_that_came_while_it_was_made(
    places: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = waiting(places)

    def while_another_changes_it(*_: Any, **__: Any) -> Attempt:
        request_stop(run, "bob")
        start_again(run, "queued", after=1, device_uuids=["GPU-a"], changes={"gradient_checkpointing": False})
        return Attempt(device_uuids=["GPU-b"])

    monkeypatch.setattr("lora_backend.launching.requeue.plan_attempt", while_another_changes_it)
    with pytest.raises(StateError, match="planned again"):
        move_run(run, places, BrowserRoots(places), None, ["GPU-b"])  # type: ignore[arg-type]
    assert (attempt_of(run)["number"], attempt_of(run)["device_uuids"]) == (2, ["GPU-a"])


def test_a_run_beside_others_stays_beside_others_where_it_is_moved(
    places: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = waiting(places, shares=True)

    def planned(*_: Any, shares: bool = False, **__: Any) -> Attempt:
        return Attempt(device_uuids=["GPU-b"], shares=shares)

    monkeypatch.setattr("lora_backend.launching.requeue.plan_attempt", planned)
    move_run(run, places, BrowserRoots(places), None, ["GPU-b"])  # type: ignore[arg-type]
    assert (attempt_of(run)["device_uuids"], lease_keys(run.read_attempt())) == (["GPU-b"], ())
