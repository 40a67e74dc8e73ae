"""Resuming a run: what it goes on from, what may change, and when it is refused. The trainer is a stand-in."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.schema import TrainingConfig
from lora_backend.data.row_file import sha256_of_rows
from lora_backend.errors import ConfigError, DataChangedError, DataError, ModelError, RunError
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.resume import data_to_accept, prepare_resume
from lora_backend.launching.run_config import bound_before
from lora_backend.planning.cost.profile import Profile
from lora_backend.runs.checkpoints.manifest import write_manifest
from lora_backend.runs.checkpoints.starts import spans_of
from lora_backend.runs.history.calmer_start import CalmerStart, calmer_start
from lora_backend.runs.history.loss_health import LossHealth
from lora_backend.runs.processes.leases import release, take
from lora_backend.runs.processes.queue import change_plan
from lora_backend.runs.processes.supervisor import start_supervisor
from lora_backend.runs.processes.waiting import leases_folder
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.surroundings import differences_from_now
from lora_backend.runs.record.transitions import request_stop
from tests.resolving import from_here, resume_from_here
from tests.run_files import add_start, attempt_of, end_run, make_run, record_of, set_attempt, set_status, start_again
from tests.runs.stand_in import HEAD, TRAIN, kill, let_end
from tests.tiny import stub_model
from tests.waiting import until


def no_trace(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
    raise ModelError("no trace here, so there is no plan")


@pytest.fixture
def places(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """With a cache of its own: what others traced of a model like this would keep its trace from being asked for."""
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    return this_installation(os.environ)


@pytest.fixture
def run(places: Installation, tmp_path: Path) -> RunStore:
    """Made and not started; its model has no tensors."""
    stub_model(tmp_path / "m")
    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    config = {"model_name": str(tmp_path / "m"), "dataset": str(tmp_path / "d.jsonl"), "num_epochs": 2}
    path = places.runs / "one"
    argv = [sys.executable, "-c", HEAD + TRAIN, "--run-dir", str(path)]
    argv[2] = argv[2].replace("sys.argv[1]", "sys.argv[2]")
    run = make_run(places.runs, config=config, config_text="", argv=argv, path=path)
    add_start(run, device_uuids=[])
    return run


def checkpoint(run: RunStore, step: int) -> Path:
    path = run.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "optimizer.pt").write_bytes(b"state" * step)
    write_manifest(path, step)
    return path


def test_a_stopped_run_goes_on_from_its_newest_whole_checkpoint(run: RunStore, places: Installation) -> None:
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    request_stop(run)
    until(run.exit_json.exists, "it stops")
    checkpoint(run, 5)
    (checkpoint(run, 10) / "optimizer.pt").write_bytes(b"damaged")
    assert resume_from_here(run, places, no_trace, actor="anna").id == run.id
    until(lambda: run.state().state == "running", "it goes on")
    attempt = attempt_of(run)
    assert (attempt["number"], attempt["resume_from"], attempt["actor"]) == (2, "checkpoint-5", "anna")
    assert [item["checkpoint"] for item in attempt["damaged"]] == ["checkpoint-10"]
    assert json.loads((run.attempts / "1.exit.json").read_text())["state"] == "stopped"
    with pytest.raises(RunError, match="Stop it before"):
        resume_from_here(run, places, no_trace)
    let_end(run)
    until(run.exit_json.exists, "the end")
    assert run.state().state == "finished"


def test_a_killed_run_without_a_checkpoint_starts_from_the_beginning(run: RunStore, places: Installation) -> None:
    start_supervisor(run)
    until(lambda: run.state().state == "running", "it runs")
    kill(run, "trainer")
    until(run.exit_json.exists, "the end is written")
    resume_from_here(run, places, no_trace)
    assert attempt_of(run)["resume_from"] is None
    until(lambda: run.state().state == "running", "it goes on")
    let_end(run)
    until(run.exit_json.exists, "the end")


def test_a_run_that_the_machines_restart_ended_goes_on(run: RunStore, places: Installation) -> None:
    mine = identify(os.getpid())
    assert mine
    set_status(run, state="running", trainer=mine.to_json() | {"boot_id": "another"})
    assert run.state().cause == "reboot"
    resume_from_here(run, places, no_trace)
    assert json.loads((run.attempts / "1.exit.json").read_text())["cause"] == "reboot"
    until(lambda: run.state().state == "running", "it goes on")
    let_end(run)
    until(run.exit_json.exists, "the end")


def test_of_two_who_resume_it_at_once_one_does(run: RunStore, places: Installation) -> None:
    end_run(run, "failed", cause="killed")
    gate, done, refused = threading.Barrier(4), [], []

    def resume() -> None:
        gate.wait()
        try:
            done.append(resume_from_here(run, places, no_trace))
        except RunError as error:
            refused.append(error)

    threads = [threading.Thread(target=resume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(done), len(refused)) == (1, 3)
    assert attempt_of(run)["number"] == 2
    until(lambda: run.state().state == "running", "it goes on")
    let_end(run)
    until(run.exit_json.exists, "the end")


def test_one_who_comes_second_ends_nothing_of_the_one_who_came_first(run: RunStore, places: Installation) -> None:
    end_run(run, "failed", cause="killed")

    def while_another_resumes_it(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
        resume_from_here(run, places, no_trace)
        raise ModelError("no trace here, so there is no plan")

    with pytest.raises(RunError, match="has not ended"):
        resume_from_here(run, places, while_another_resumes_it)
    assert attempt_of(run)["number"] == 2
    until(lambda: run.state().state == "running", "the first one's start goes on")
    let_end(run)
    until(run.exit_json.exists, "the end")
    assert run.state().state == "finished"


@pytest.mark.parametrize("num_before", [0, 1])
def test_what_was_made_ready_before_another_start_is_not_used_after_it(
    num_before: int, run: RunStore, places: Installation
) -> None:
    if not num_before:  # it ended before its first start was written down
        shutil.rmtree(run.attempts)
    end_run(run, "failed", cause="killed")

    def while_another_start_fails(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
        start_again(run, "starting")
        end_run(run, "failed", cause="killed")
        raise ModelError("no trace here, so there is no plan")

    with pytest.raises(RunError, match="resumed or planned again"):
        resume_from_here(run, places, while_another_start_fails)
    assert (attempt_of(run)["number"], run.state().state) == (num_before + 1, "failed")


def test_a_resumed_run_waits_where_its_device_is_taken(run: RunStore, places: Installation) -> None:
    end_run(run, "failed", cause="killed")
    leases = take(leases_folder(places.workspace), ["cpu"], places.runs / "other")
    assert leases
    resume_from_here(run, places, no_trace)
    assert run.state().state == "queued"
    release(leases)
    until(lambda: run.state().state == "running", "its turn comes")
    let_end(run)
    until(run.exit_json.exists, "the end")


def test_changes_are_kept_with_the_attempt_and_the_config_of_the_launch_stays(
    run: RunStore, places: Installation
) -> None:
    end_run(run, "failed", cause="killed")
    resume_from_here(run, places, no_trace, {"num_epochs": 9, "save_steps": 7})
    assert attempt_of(run)["changes"] == {"num_epochs": 9, "save_steps": 7}
    assert attempt_of(run)["restarts_schedule"] == ["num_epochs"]
    assert record_of(run)["config"]["num_epochs"] == 2
    until(lambda: run.state().state == "running", "it goes on")
    let_end(run)
    until(run.exit_json.exists, "the end")


@pytest.mark.parametrize("changes", [{"r": 99}, {"seed": 1}, {"num_epochs": -1}, {"no_such_key": 1}])
def test_a_change_that_cannot_be_made_leaves_the_run_as_it_was(
    changes: dict[str, Any], run: RunStore, places: Installation
) -> None:
    end_run(run, "failed", cause="killed")
    before = sorted(str(path) for path in run.path.rglob("*"))
    with pytest.raises(ConfigError):
        resume_from_here(run, places, no_trace, changes)
    assert sorted(str(path) for path in run.path.rglob("*")) == before
    assert run.state().state == "failed"


def test_what_a_change_would_do_is_said_before(run: RunStore) -> None:
    found = prepare_resume(run, this_installation(), bound_before(run), {"num_epochs": 3, "save_steps": 7}).classified
    assert (set(found["safe"]), set(found["restarts_schedule"])) == ({"save_steps"}, {"num_epochs"})


def test_a_finished_run_has_nothing_to_go_on_with_unless_it_trains_longer(run: RunStore, places: Installation) -> None:
    set_status(run, state="running")
    end_run(run, "finished")
    with pytest.raises(RunError, match="raise `num_epochs`"):
        resume_from_here(run, places, no_trace)
    resume_from_here(run, places, no_trace, {"num_epochs": 5})
    until(lambda: run.state().state == "running", "it goes on")
    let_end(run)
    until(run.exit_json.exists, "the end")


def test_a_run_on_a_callers_batches_is_the_callers_to_repeat(places: Installation) -> None:
    run = make_run(places.runs, config={"model_name": "m"}, config_text="", argv=None)
    end_run(run, "failed", cause="killed")
    with pytest.raises(RunError, match="caller"):
        resume_from_here(run, places, no_trace)


# --------------------------------------------------------------------------------------------------- changed data


def launched_with(run: RunStore, sha256: str | None) -> None:
    run.run_json.write_text(json.dumps(record_of(run) | {"data_sha256": sha256}))


def test_changed_data_is_refused_until_it_is_accepted_and_the_new_hash_goes_with_the_attempt(
    run: RunStore, places: Installation, tmp_path: Path
) -> None:
    launched_with(run, sha256_of_rows(tmp_path / "d.jsonl"))
    end_run(run, "failed", cause="killed")
    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "completion": "other"}\n')
    before = sorted(str(path) for path in run.path.rglob("*"))
    with pytest.raises(DataChangedError, match="has changed since the run was launched"):
        resume_from_here(run, places, no_trace)
    assert sorted(str(path) for path in run.path.rglob("*")) == before
    resume_from_here(run, places, no_trace, accept_changed_data=True)
    assert attempt_of(run)["accepted_data_sha256"] == sha256_of_rows(tmp_path / "d.jsonl")
    until(lambda: run.state().state == "running", "it goes on")
    let_end(run)
    until(run.exit_json.exists, "the end")
    run.exit_json.unlink()
    end_run(run, "failed", cause="killed")
    resume_from_here(run, places, no_trace)
    assert "accepted_data_sha256" not in attempt_of(run), "what was confirmed once is not asked for again"
    until(lambda: run.state().state == "running" or run.state().has_ended, "it goes on")
    until(run.exit_json.exists, "the end")


def test_a_run_that_waits_for_other_gpus_keeps_what_was_accepted(run: RunStore, places: Installation) -> None:
    end_run(run, "failed", cause="killed")
    start_again(run, "queued", accepted_data_sha256="f" * 64)
    change_plan(run, places.workspace, Attempt(device_uuids=[]))
    assert attempt_of(run)["accepted_data_sha256"] == "f" * 64
    request_stop(run)


@pytest.mark.parametrize("sha256", [None, 5])
def test_a_run_that_recorded_no_data_is_asked_for_nothing(sha256: Any, run: RunStore) -> None:
    launched_with(run, sha256)
    assert data_to_accept(run, from_here(run.config_as_changed()), accept_changed_data=False) is None


def test_data_that_is_gone_or_no_file_is_a_sentence_before_anything_is_started(
    run: RunStore, places: Installation, tmp_path: Path
) -> None:
    end_run(run, "failed", cause="killed")
    (tmp_path / "d.jsonl").unlink()
    with pytest.raises(DataError, match="There is no data set"):
        resume_from_here(run, places, no_trace)
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(DataError, match="contains no data files"):
        resume_from_here(run, places, no_trace)
    assert run.state().state == "failed"


def test_what_is_another_than_at_the_last_start_is_named_before_the_next(run: RunStore) -> None:
    set_attempt(
        run,
        from_step=0,
        versions={"peft": "0.1"},
        python="3.9",
        code={"commit": "f" * 40},
        base={"config_sha256": "0", "weights_sha256": 7},
    )
    said = " ".join(
        message.text("en") for message in differences_from_now(run, from_here(run.config_as_changed()).model_path)
    )
    assert "config.json of the base model is not the same" in said
    assert "peft 0.1 → " in said
    assert "python 3.9 → " in said
    assert "commit ffffffffffff → " in said


def test_steps_belong_to_the_start_that_trained_them_last(run: RunStore) -> None:
    shutil.rmtree(run.attempts)
    add_start(run, from_step=0, data_sha256="a")
    add_start(run, from_step=10, data_sha256="b")
    add_start(run, resume_from="checkpoint-20", plan={})
    assert [(span.number, span.first_step, span.last_step) for span in spans_of(run, upto=15)] == [
        (1, 1, 10),
        (2, 11, 15),
    ]
    add_start(run, from_step=5, data_sha256="c")
    assert [(span.first_step, span.last_step, span.data_sha256) for span in spans_of(run)] == [
        (1, 5, "a"),
        (6, None, "c"),
    ]
    add_start(run, from_step=0, data_sha256="d")
    assert [span.data_sha256 for span in spans_of(run)] == ["d"]
    (run.attempts / "6.json").write_text('{"from_step": true, "num_threads": 2, "resume_from": 7, "data_sha256": 1}')
    assert [span.data_sha256 for span in spans_of(run)] == [None]


def test_a_run_goes_on_from_the_checkpoint_that_is_named(run: RunStore, places: Installation) -> None:
    for step in (5, 10, 15):
        checkpoint(run, step)
    (run.checkpoints / "checkpoint-5" / "optimizer.pt").write_bytes(b"damaged")
    end_run(run, "finished")
    for step in (5, 7):
        with pytest.raises(RunError, match=f"no complete checkpoint at step {step}. It has: 5, 10, 15."):
            resume_from_here(run, places, no_trace, from_step=step)
    resume_from_here(run, places, no_trace, {"learning_rate": 5e-5}, from_step=10)
    assert attempt_of(run)["resume_from"] == "checkpoint-10"
    until(lambda: run.state().state == "running", "it goes on")
    let_end(run)
    until(run.exit_json.exists, "the end")
    resume_from_here(run, places, no_trace, from_step=0)
    assert attempt_of(run)["resume_from"] is None
    until(lambda: run.state().state == "running", "it begins again")
    let_end(run)
    until(run.exit_json.exists, "the end")


def test_a_diverged_run_is_gone_on_with_from_before_at_half_the_rate(run: RunStore) -> None:
    assert calmer_start(run, LossHealth("ok")) is None
    assert calmer_start(run, LossHealth("dead", step=4)) is None
    diverged = LossHealth("diverged", step=12)
    assert calmer_start(run, diverged) == CalmerStart(0, 5e-5), "the default rate is 1e-4, and no checkpoint is there"
    for step in (5, 10, 15):
        checkpoint(run, step)
    assert calmer_start(run, diverged) == CalmerStart(10, 5e-5)
    assert calmer_start(run, LossHealth("diverged", step=10)) == CalmerStart(5, 5e-5)
    assert calmer_start(run, LossHealth("rose", step=10)) == CalmerStart(10, 5e-5)
