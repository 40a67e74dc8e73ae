"""Ten SIGKILLs of the supervisor under the real trainer: the run goes on or can be resumed, and its end is written once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import log_tail, points_of
from tests.soak.conftest import Figures
from tests.soak.real import (
    END_S,
    TRUE_WITHIN_S,
    Arrivals,
    real_run,
    resume,
    seconds_until_true,
    supervisors_of,
    trainers_of,
    wait_for_end,
)
from tests.training.helpers import adapter_bytes, curve
from tests.training.helpers import run as undisturbed
from tests.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600), pytest.mark.usefixtures("ended_after")]
Make = Callable[..., dict[str, Any]]
AT_THE_START, IN_TRAINING = 4, 6


def test_a_supervisor_killed_at_its_start_leaves_a_run_that_goes_on_or_can_be_resumed(
    config: Make, workspace: Path, figures: Figures
) -> None:
    values = config(lora_dropout=0.1, save_steps=4)
    whole, draw, ends, times = undisturbed(workspace, values), random.Random(3), [], []
    for number in range(AT_THE_START):
        run = real_run(workspace, values, f"start{number}")
        with Arrivals(run.path, "exit.json") as ends_written:
            pid = start_supervisor(run)
            # The first at once; the others while it reads, starts its trainer, or has just written it down.
            time.sleep(number * draw.uniform(0.05, 0.25))
            os.kill(pid, signal.SIGKILL)
            until(lambda run=run: not supervisors_of(run), "it is dead")  # type: ignore[misc]
            times.append(seconds_until_true(run, workspace))
            wait_for_end(run)
            assert ends_written.count == 1
        ends.append(recover(run).state)
        if ends[-1] != "finished":  # nothing had begun, or nobody saw how it ended
            assert recover(run).cause == "ended_unseen", log_tail(run)
            resume(run)
            wait_for_end(run)
        same(run, whole)
    assert max(times) <= TRUE_WITHIN_S, times
    figures(
        f"supervisor killed at its start {AT_THE_START} times: then {', '.join(ends)}; state true within {max(times):.2f} s"
    )


def test_a_supervisor_killed_in_training_and_while_saving_changes_nothing(
    config: Make, workspace: Path, figures: Figures
) -> None:
    steps = 600
    values = config(lora_dropout=0.1, save_steps=5, logging_steps=1, max_steps=steps)
    whole, draw, hit, times = undisturbed(workspace, values), random.Random(5), [], []
    run = real_run(workspace, values, "killed")
    with Arrivals(run.path, "exit.json") as ends_written:
        start_supervisor(run)
        for number in range(IN_TRAINING):
            step = int(steps * (number + draw.random()) / (IN_TRAINING + 1))
            until(lambda step=step: _reached(run, step), "it trains on", limit_s=END_S)  # type: ignore[misc]
            if number % 2:
                until(lambda: is_saving(run), "it saves", limit_s=END_S)
            (trainer,) = trainers_of(run)
            (supervisor,) = supervisors_of(run)
            hit.append(f"{'saving' if is_saving(run) else 'training'} at step {recover(run).step}")
            os.kill(supervisor.pid, signal.SIGKILL)
            until(lambda: not supervisors_of(run), "it is dead")
            times.append(seconds_until_true(run, workspace))
            assert recover(run).state == "running", "the trainer goes on"
            assert trainers_of(run) == [trainer], "and is the same one"
            (successor,) = supervisors_of(run)
            assert successor != supervisor
        wait_for_end(run)
        until(lambda: not supervisors_of(run), "the last one leaves")
        assert ends_written.count == 1
    same(run, whole)
    assert not trainers_of(run)
    assert max(times) <= TRUE_WITHIN_S, times
    figures(
        f"supervisor killed {IN_TRAINING} times ({', '.join(hit)}): one trainer throughout, adapter and curve bit-identical, exit.json written once; state true within {max(times):.2f} s"
    )


def is_saving(run: RunStore) -> bool:
    return any(run.checkpoints.glob(".checkpoint-*.new"))


def _reached(run: RunStore, step: int) -> bool:
    assert not run.exit_json.exists(), f"it ended before step {step}: {log_tail(run, 3000)}"
    return run.state().stage == "training" and max((row["step"] for row in points_of(run)), default=0) >= step


def same(run: RunStore, whole: RunStore) -> None:
    assert recover(run).state == "finished", log_tail(run, 3000)
    assert curve(run) == curve(whole)
    assert adapter_bytes(run) == adapter_bytes(whole)
