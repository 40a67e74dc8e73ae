"""A cluster on the pages: offered only where there is one, submitted to from the draft, and shown on the run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.clusters.cluster_documents import ClusterJob
from lora_backend.config.drafts import Draft, new_draft
from lora_backend.i18n import Message
from lora_backend.installation import this_installation
from lora_backend.launching import on_cluster
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore
from tests.clusters.stub_slurm import StubSlurm
from tests.pages.plan_page import SMALL
from tests.pages.screens import finished_run, show, texts
from tests.run_files import make_run, set_status
from tests.tiny import stub_model, write_rows

pytestmark = pytest.mark.usefixtures("places")


def shown(at: AppTest) -> str:
    return texts(at).replace("\\", "")


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, [{"prompt": "a", "completion": "b"}] * 4)
    model = stub_model(tmp_path / "small", SMALL)
    return new_draft(this_installation().drafts, f"model_name: {model}\ndataset: {rows}\nbatch_size: 1\n")


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Attempt]:
    """What was started, without a process."""
    found: list[Attempt] = []

    def start_run(request: object, path: object, argv: object, attempt: Attempt) -> RunStore:
        found.append(attempt)
        return finished_run()

    monkeypatch.setattr(on_cluster, "start_run", start_run)
    monkeypatch.setattr("pages.parts.draft.on_cluster.count_within", lambda _: None)
    return found


def test_without_a_cluster_there_is_nothing_of_one(
    draft: Draft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # this machine may be one of a cluster's
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    at = show("config", draft=draft.id, lang="en")
    assert "launch_on_cluster" not in [button.key for button in at.button]


def test_a_draft_is_submitted_to_slurm_with_what_was_filled_in(
    draft: Draft, attempts: list[Attempt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = StubSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{stub.bin}{os.pathsep}{os.environ['PATH']}")
    at = show("config", draft=draft.id, lang="en")
    at.number_input(key=f"cluster-gpus_per_node-{draft.id}").set_value(2)
    at.text_input(key=f"cluster-partition-{draft.id}").set_value("gpu")
    at.button(key="launch_on_cluster").click().run()
    assert not at.exception, at.exception
    (attempt,) = attempts
    assert attempt.cluster is not None, shown(at)
    assert (attempt.cluster.kind, attempt.cluster.parameters) == ("slurm", {"gpus_per_node": 2, "partition": "gpu"})
    assert not attempt.is_planned


def test_a_ray_that_does_not_answer_is_said_on_the_page(
    draft: Draft, attempts: list[Attempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    at = show("config", draft=draft.id, lang="en")
    at.button(key="launch_on_cluster").click().run()
    assert not at.exception, at.exception
    assert "Ray does not answer at" in shown(at)
    assert attempts == []


def test_the_page_of_a_run_says_which_job_it_is_and_why_it_waits(tmp_path: Path) -> None:
    path = tmp_path / "ws" / "runs" / "waiting"
    attempt = {"cluster": {"kind": "slurm", "parameters": {}}}
    run = make_run(path.parent, config={"r": 4}, config_text="r: 4\n", argv=["true"], path=path, attempt=attempt)
    job = ClusterJob(kind="slurm", name="flightdeck-waiting-1", watcher="login", id="101", state="PENDING")
    set_status(run, supervisor=identify(os.getpid()), job=job, detail=Message("it waits for its turn"))
    at = show("runs", run=run.id, lang="en")
    assert "Slurm job 101: PENDING." in shown(at)
    assert "it waits for its turn" in shown(at)
    assert "starting Python and torch" not in shown(at)
