"""A job is a run: it waits, stops and ends as one, and is started again as another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lora_backend.cli import main
from lora_backend.errors import RunError
from lora_backend.installation import this_installation
from lora_backend.launching.jobs import restart_job, start_job
from lora_backend.runs.history.jobs_of import jobs_of
from lora_backend.runs.history.run_table import History
from lora_backend.runs.record.job_documents import DownloadRequest, EvaluateRequest, ExportRequest, kind_of, request_of
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.pages.screens import show, texts
from tests.run_files import end_run, make_run
from tests.waiting import until

REQUEST = DownloadRequest(repo_id="somebody/model")


@pytest.fixture(autouse=True)
def _offline(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def failed() -> RunStore:
    """A download that could not reach its hub: a process of its own that has ended."""
    job = start_job(REQUEST, this_installation(), name="somebody/model")
    until(job.exit_json.exists, "the end")
    return job


def test_what_fails_says_why_and_is_started_again_as_another(failed: RunStore) -> None:
    state = failed.state()
    assert state.state == "failed"
    assert state.message
    assert "HF_HUB_OFFLINE" in state.message.text("en")
    assert not failed.checkpoints.exists()
    again = restart_job(failed, this_installation())
    assert again.id != failed.id
    assert again.read_record().config == failed.read_record().config == REQUEST.to_json()
    assert again.read_record().name == "somebody/model"
    until(again.exit_json.exists, "the end of the other")


def test_one_that_goes_on_and_one_of_another_machine_are_not(failed: RunStore) -> None:
    copied = RunStore(failed.path.with_name("copied"))
    shutil.copytree(failed.path, copied.path)
    with pytest.raises(RunError, match="not started on this machine"):
        restart_job(copied, this_installation())
    going = make_run(this_installation().runs, kind="download", config=REQUEST.to_json(), config_text="", argv=["true"])
    with pytest.raises(RunError, match="has not ended"):
        restart_job(going, this_installation())
    end_run(going, "failed")


def test_resume_at_the_terminal_starts_it_again(failed: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "resume", failed.id, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["restarted"] == failed.id
    assert {run.id for run in list_runs(this_installation().runs)} == {failed.id, answer["run"]}
    assert main(["runs", "resume", failed.id, "--set", "r=4", "--json"]) == 2
    assert "`--set` changes the settings of a training" in json.loads(capsys.readouterr().out)["error"]
    until(RunStore(this_installation().runs / answer["run"]).exit_json.exists, "the end of the other")


def test_lists_and_show_know_a_job(failed: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["kind"], row["name"], row["state"]) == ("download", "somebody/model", "failed")
    assert main(["runs", "show", failed.id]) == 1
    assert "HF_HUB_OFFLINE" in capsys.readouterr().out


def test_its_page_says_why_it_failed_and_starts_it_again(failed: RunStore) -> None:
    at = show("runs", run=failed.id)
    assert "HF_HUB_OFFLINE" in texts(at)
    at.button(key="again_job").click().run()
    assert not at.exception
    (again,) = [run for run in list_runs(this_installation().runs) if run.id != failed.id]
    assert at.query_params["run"] == again.id
    until(again.exit_json.exists, "the end of the other")


def test_the_jobs_of_a_run_are_those_that_name_it() -> None:
    for of_run in ("a", "b", None):
        request = ExportRequest(adapter="/adapter", to="card", of_run=of_run)
        end_run(
            make_run(this_installation().runs, kind="export", config=request.to_json(), config_text="", argv=None),
            "failed",
        )
    rows = History(this_installation().runs).rows()
    assert [row.config["of_run"] for row in jobs_of("a", rows)] == ["a"]


@pytest.mark.parametrize(
    "request_", [REQUEST, ExportRequest(adapter="/a", to="gguf", rank=4), EvaluateRequest(base_model="/m", columns=[])]
)
def test_a_request_is_read_as_it_was_written(request_: DownloadRequest | ExportRequest | EvaluateRequest) -> None:
    assert request_of(kind_of(request_), request_.to_json()) == request_
