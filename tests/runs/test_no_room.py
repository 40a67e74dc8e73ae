"""A disk that fills up under the real trainer: what was whole stays whole, and the run goes on when there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.config_writing import dump_yaml
from lora_backend.runs.checkpoints.manifest import checkpoints_of, verified
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.processes.trainer_command import trainer_command
from tests.run_files import add_start, log_tail, make_run, points_of
from tests.runs.stand_in import with_variables
from tests.waiting import until

Config = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("full", ["metrics.jsonl", "/checkpoints/", "train.log"])
def test_a_full_disk_ends_the_run_with_its_cause_or_not_at_all(
    full: str, config: Config, workspace: Path, faults: Path
) -> None:
    values = config(num_epochs=60, save_steps=20, logging_steps=5)
    path = workspace / "runs" / "one"
    variables = {"LD_PRELOAD": str(faults), "FAULT_PATH": full, "FAULT_WHEN": str(path / "checkpoints/checkpoint-40")}
    argv = with_variables(trainer_command(path), variables)
    run = make_run(path.parent, config=values, config_text=dump_yaml(values), argv=argv, path=path)
    add_start(run, device_uuids=[])
    start_supervisor(run)
    until(run.exit_json.exists, "it ends", limit_s=150)
    state = run.state()
    if full == "train.log":  # no line of a log is worth a run
        assert state.state == "finished", log_tail(run)
    else:
        assert (state.state, state.cause) == ("failed", "disk_full"), log_tail(run)
        assert state.message is not None
        assert "disk is full" in state.message.text("en")
    assert checkpoints_of(run)
    assert [verified(checkpoint) for checkpoint in checkpoints_of(run)] == [[]] * len(checkpoints_of(run))
    assert points_of(run)
