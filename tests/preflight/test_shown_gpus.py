"""A trainer sees just the GPUs of its plan, the embedding's first: through the real driver interface over simulated GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.config_writing import dump_yaml
from lora_backend.runs.record.run_store import list_runs
from tests.hardware.nvml import ROOT, result_of, stub_environment
from tests.preflight.small_model import FACTS
from tests.run_files import attempt_of

GPUS = """
gpu name=NVIDIA RTX A, uuid=GPU-a, gib=3, used_gib=1.2, cc=8.6
gpu name=NVIDIA RTX B, uuid=GPU-b, gib=3, cc=8.6
gpu name=NVIDIA RTX C, uuid=GPU-c, gib=24, used_gib=23, cc=8.6
"""
IMPORTS = """
import os
from tests.planning.formula_profiles import formula_profile
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.preflight.start_plan import plan_attempt
from lora_backend.installation import this_installation
from lora_backend.launching.launch import _first_device
from lora_backend.preflight.placement import plan_start
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.numbering import in_trainer
from tests.resolving import from_here

def profile_for(facts, config):  # without torch
    return formula_profile(facts, config, TraceSettings.of(config, config.precision, tile_tokens=0))

def attempts(each, **more):
    planned = (plan_attempt(from_here(values), profile_for, accepts="over", **more) for values in each)
    return [attempt.to_json() for attempt in planned]
"""
HALVES = {"model.embed_tokens": 1, "model.rotary_emb": 1, "model.layers": 1, "model.norm": 0, "lm_head": 0}


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config.json").write_text(json.dumps(FACTS))
    places = {"FLIGHTDECK_WORKSPACE": str(tmp_path / "ws"), "FLIGHTDECK_HOME": str(tmp_path / "home")}
    return stub_environment(tmp_path, GPUS) | places


def values(folder: Path, **keys: Any) -> dict[str, Any]:
    return {"model_name": str(folder / "config.json"), "batch_size": 1, "max_length": 512, **keys}


def shown(attempt: dict[str, Any]) -> str:
    return str(attempt["environment"]["CUDA_VISIBLE_DEVICES"])


def test_what_a_trainer_sees_is_what_its_plan_uses_with_the_embeddings_first(
    tmp_path: Path, machine: dict[str, str]
) -> None:
    asked = [
        values(tmp_path),
        values(tmp_path, use_balanced_device_map=True, min_memory_gb=2),
        values(tmp_path, device_map=HALVES),
        values(tmp_path, device_map={"": 1}),
        values(tmp_path, device_map={"model": 1, "lm_head": "cuda:0", "tower": 2}),
        values(tmp_path, device_map="auto"),
        values(tmp_path, device_map="cpu"),
    ]
    one, balanced, halves, whole, tower, auto, cpu = result_of(f"attempts({asked!r})", machine, IMPORTS)
    assert (shown(one), one["device_uuids"]) == ("GPU-a", ["GPU-a"])
    # Only GPU 1 has 2 GiB free: its number is the machine's in the plan, and 0 in the trainer.
    assert (shown(balanced), set(balanced["plan"]["device_map"].values())) == ("GPU-b", {1})
    assert [(device["index"], device["uuid"]) for device in balanced["plan"]["devices"]] == [
        (0, "GPU-a"),
        (1, "GPU-b"),
        (2, "GPU-c"),
    ]
    assert (shown(halves), halves["device_uuids"]) == ("GPU-b,GPU-a", ["GPU-b", "GPU-a"])
    assert shown(whole) == "GPU-b"
    assert shown(tower) == "GPU-b,GPU-a,GPU-c", "what a map names beside the model's blocks is there too"
    assert (auto["plan"], shown(auto)) == (None, "GPU-a,GPU-b,GPU-c"), "accelerate places it: nothing is hidden"
    assert shown(cpu) == "-1", "transformers would put the inputs on a GPU that it sees"


def test_a_map_reaches_the_trainer_in_its_own_numbers(tmp_path: Path, machine: dict[str, str]) -> None:
    asked = [values(tmp_path, device_map=HALVES), values(tmp_path, device_map={"": 1})]
    maps = f"[in_trainer(values['device_map'], Attempt.read(attempt)) for values, attempt in zip({asked!r}, attempts({asked!r}))]"
    halves, whole = result_of(maps, machine, IMPORTS)
    assert (halves["model.embed_tokens"], halves["lm_head"]) == (0, 1)
    assert whole == {"": 0}


def test_what_the_launcher_may_see_itself_is_all_that_there_is(tmp_path: Path, machine: dict[str, str]) -> None:
    machine |= {"CUDA_VISIBLE_DEVICES": "1,0"}
    asked = [values(tmp_path), values(tmp_path, device_map={"": 1})]
    first, second = result_of(f"attempts({asked!r})", machine, IMPORTS)
    assert (shown(first), shown(second)) == ("GPU-b", "GPU-a")
    assert [device["uuid"] for device in first["plan"]["devices"]] == ["GPU-b", "GPU-a"]


def test_a_run_on_chosen_gpus_keeps_their_numbers_and_its_own_map_names_their_places(
    tmp_path: Path, machine: dict[str, str]
) -> None:
    asked = [values(tmp_path), values(tmp_path, device_map={"": 1}), values(tmp_path, device_map=HALVES)]
    one, whole, halves = result_of(f"attempts({asked!r}, only=['GPU-b', 'GPU-a'])", machine, IMPORTS)
    assert (shown(one), one["plan"]["devices"][0]["index"]) == ("GPU-b", 1)
    assert shown(whole) == "GPU-a"
    assert shown(halves) == "GPU-a,GPU-b"


def test_a_process_that_hides_nothing_from_itself_is_planned_as_it_is(tmp_path: Path, machine: dict[str, str]) -> None:
    reverse = (
        "lambda targets: tuple(__import__('dataclasses').replace(t, device=i) for i, t in enumerate(targets[::-1]))"
    )
    asked = values(tmp_path, device_map=HALVES | {"model.norm": 2, "lm_head": 2})
    found = result_of(
        f"plan_start(from_here({asked!r}), profile_for, seen={reverse}).attempt.to_json()", machine, IMPORTS
    )
    assert shown(found) == "GPU-c,GPU-b,GPU-a"
    assert found["device_uuids"] == ["GPU-b", "GPU-a"]


def test_a_run_that_is_planned_when_it_has_started_sees_the_first_gpu_alone(machine: dict[str, str]) -> None:
    found = result_of("_first_device(this_installation()).to_json()", machine, IMPORTS)
    assert (shown(found), found["device_uuids"]) == ("GPU-a", ["GPU-a"])


def test_the_trainer_in_the_foreground_chooses_its_gpus_before_torch_is_there(
    config: Callable[..., dict[str, Any]], workspace: Path, tmp_path: Path, machine: dict[str, str]
) -> None:
    """Without CUDA it comes as far as to the loading of its model."""
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(config(use_balanced_device_map=True, precision="bf16")))
    machine |= {"FLIGHTDECK_WORKSPACE": str(workspace)}
    command = [sys.executable, "-m", "lora_backend", "train", str(path)]
    assert subprocess.run(command, env=machine, cwd=ROOT, capture_output=True, check=False).returncode == 1
    (run,) = list_runs(workspace / "runs")
    attempt = attempt_of(run)
    assert (shown(attempt), set(attempt["plan"]["device_map"].values())) == ("GPU-b", {1})
    log = run.train_log.read_text()
    assert "devices here: cuda:0 is GPU 1\n" in log
    assert "'lm_head': 0" in log.partition("device_map {")[2]
