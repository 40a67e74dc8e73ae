"""A run that several processes train is launched, queued and resumed as any other, with what was settled for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, ModelError, PlanError
from lora_backend.hardware.inventory import read_host
from lora_backend.installation import this_installation
from lora_backend.launching import launch
from lora_backend.launching.requests import StartOptions, StartRequest
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.targets import of_host
from lora_backend.preflight import placement
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.startable import judge, startable
from lora_backend.runs.record.run_store import RunStore
from tests.planning.formula_profiles import formula_profile
from tests.preflight.small_model import FACTS
from tests.resolving import from_here, resume_from_here
from tests.runs.stand_in import HEAD, TRAIN
from tests.stub_runs import stub_runs
from tests.tiny import prompts, stub_model, write_rows
from tests.waiting import until

TWO = {"strategy": "ddp", "num_processes": 2, "batch_size": 1, "target_batch_size": 4, "max_length": 128}


def trace(facts: Any, config: TrainingConfig) -> Profile:
    """By formula, without torch."""
    return formula_profile(facts, config, TraceSettings.of(config, "fp32", tile_tokens=0))


@pytest.fixture
def asked(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ResolvedConfig]:
    """A config of two processes on this machine's CPU; its trainer is a stand-in."""
    model, rows = stub_model(tmp_path / "m", FACTS), write_rows(tmp_path / "rows.jsonl", prompts())
    monkeypatch.setattr(
        launch, "trainer_command", lambda path: [sys.executable, "-c", HEAD + TRAIN, str(path), "--run-dir", str(path)]
    )
    monkeypatch.setattr(placement, "machine_targets", lambda *_: ((of_host(read_host(tmp_path)),), None, None))  # fmt: skip
    yield from_here({"model_name": str(model), "dataset": str(rows), "precision": "fp32", **TWO})
    for _ in stub_runs(workspace):
        pass  # ends what it started


def ended(run: RunStore) -> RunStore:
    until(lambda: run.state().state == "running", f"{run.id} runs")
    (run.path / "go").touch()
    until(run.exit_json.exists, f"{run.id} ends")
    (run.path / "go").unlink()
    return run


def test_a_launch_of_two_processes_keeps_what_was_settled_and_a_resume_settles_it_anew(asked: ResolvedConfig) -> None:
    options = StartOptions(accepts="over")
    run = launch.launch(StartRequest(asked, options), trace)
    attempt = run.read_attempt()
    assert (attempt.strategy, attempt.num_processes, attempt.num_nodes, attempt.num_peers) == ("ddp", 2, 1, 2)
    assert attempt.meeting is None
    assert attempt.plan is not None
    assert attempt.plan.num_processes == 2
    ended(run)
    longer = {"num_epochs": 9}
    resume_from_here(run, this_installation(), trace, longer, accepts="over")
    assert run.read_attempt().num_peers == 2
    ended(run)
    alone = {"strategy": "single", "num_processes": None, "num_epochs": 12}
    resume_from_here(run, this_installation(), trace, alone, accepts="over")
    attempt = run.read_attempt()
    assert (attempt.number, attempt.num_peers, attempt.changes) == (3, 1, alone)
    assert run.config_as_changed()["strategy"] == "single"
    ended(run)


def test_several_machines_are_launched_only_where_they_can_meet(asked: ResolvedConfig, workspace: Path) -> None:
    of_two = from_here({**asked.values, "num_nodes": 2})
    assert startable(judge(of_two), trace, count=None).blockers == ()
    with pytest.raises(ConfigError, match="flightdeck runs start CONFIG"):
        launch.launch(StartRequest(of_two, StartOptions(accepts="over")), trace)
    assert not list((workspace / "runs").glob("*"))


def test_a_model_that_cannot_be_planned_is_still_shared_among_machines(asked: ResolvedConfig) -> None:
    def untraced(*_: object) -> Profile:
        raise ModelError("not traced here")

    of_two = from_here({**asked.values, "num_nodes": 2, "strategy": "auto", "num_processes": 1})
    attempt = placement.plan_start(of_two, untraced).attempt
    assert (attempt.plan, attempt.strategy, attempt.num_processes, attempt.num_nodes) == (None, "ddp", 1, 2)
    unsaid = from_here({**of_two.values, "num_processes": None})
    with pytest.raises(PlanError, match="on a CPU needs `num_processes`"):
        placement.plan_start(unsaid, untraced)
