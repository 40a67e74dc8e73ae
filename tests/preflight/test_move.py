"""A run that waits is moved to other GPUs, through the real driver interface over simulated ones."""

from __future__ import annotations

import json
from pathlib import Path

from tests.hardware.nvml import result_of, stub_environment
from tests.preflight.test_placement import FACTS

GPUS = """
gpu name=NVIDIA RTX A, uuid=GPU-a, gib=24, cc=8.6
gpu name=NVIDIA RTX B, uuid=GPU-b, gib=24, cc=8.6
gpu name=NVIDIA RTX C, uuid=GPU-c, gib=1, cc=8.6
"""
IMPORTS = """
import os
from pathlib import Path
from lora_backend.errors import FlightdeckError
from lora_backend.modeling.trace import profile_for
from lora_backend.preflight.launch import plan_attempt
from lora_backend.preflight.move import move_run
from lora_backend.runs.folder import RunFolder
from lora_backend.runs.leases import take
from lora_backend.runs.queue import start_or_queue
from lora_backend.runs.waiting import entries, leases_folder
from lora_backend.settings import load_settings

def moved(values, choices):
    settings = load_settings()
    taken = take(leases_folder(settings.workspace), ["GPU-a", "GPU-b"], Path("another"))
    run = RunFolder.create(settings.runs, config=values, config_text="", argv=["true"], state="queued")
    run.new_attempt(**plan_attempt(values, settings, profile_for))
    start_or_queue(run, settings.workspace)
    found = [(None, run.attempt(), "")]
    for uuids in choices:
        try:
            move_run(run, settings, profile_for, uuids)
            error = ""
        except FlightdeckError as caught:
            error = str(caught)
        (entry,) = entries(settings.workspace)
        found.append((entry.keys, run.attempt(), error))
    run.request_stop()
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
