"""A push sends what was shown before, private by default, and reads it back; the token is nowhere else."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from huggingface_hub import constants

from lora_backend.hub.hub_names import HubError
from lora_backend.hub.repository import look_up
from lora_backend.hub.upload_plan import planned_upload
from lora_backend.runs.processes.job_progress import JobProgress, JobStoppedError
from lora_backend.runs.record.job_documents import ExportRequest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.shipping.push import push
from tests.hub.stored import ID, some_bytes
from tests.hub_server import READ, WRITE, Handler, HubServer, unreachable
from tests.run_files import make_run

FILES = {"README.md": b"---\ntags: []\n---\nAn adapter", "adapter_config.json": b"{}", "adapter_model.safetensors": some_bytes(150_000)}  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What an export has made, with what never goes up."""
    folder = tmp_path / "made"
    for name, data in {**FILES, ".cache/x": b"x", ".env": b"HF_TOKEN=x"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def job(workspace: Path) -> RunStore:
    return make_run(workspace / "runs", kind="export", config={"adapter": "a", "to": "hub"}, config_text="", argv=["x"], state="running")  # fmt: skip


def asked(**more: object) -> ExportRequest:
    return ExportRequest.model_validate({"adapter": "/a", "to": "hub", "repo_id": ID, **more})


def refused(made: Path, job: RunStore, **more: object) -> str:
    with pytest.raises(HubError) as error:
        push(made, asked(**more), JobProgress(job))
    return str(error.value)


def test_what_goes_up_is_listed_before_and_nothing_hidden_is_in_it(hub: HubServer, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    plan = planned_upload(made, ID)
    assert [file.name for file in plan.files] == sorted(FILES)
    assert plan.total_bytes == sum(map(len, FILES.values()))
    assert (plan.is_private, plan.endpoint) == (True, hub.endpoint)
    assert plan.refusal
    assert plan.refusal.text("en") == (
        f"No hub token is set. Create one with write access at {hub.endpoint}/settings/tokens, then set `HF_TOKEN` or run `hf auth login`."
    )
    monkeypatch.setenv("HF_TOKEN", WRITE)
    assert planned_upload(made, ID).refusal is None
    assert hub.requests == [], "no network is asked"


def test_a_push_is_private_whole_and_read_back(hub: HubServer, made: Path, job: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", WRITE)
    result = push(made, asked(), JobProgress(job))
    repo = hub.repos[ID]
    assert repo.files == FILES
    assert repo.private
    assert (result.output, result.is_proved) == (f"{hub.endpoint}/{ID}", True)
    (proof,) = result.proofs
    assert (proof.code, proof.passed) == ("read_back", True)
    assert {file.name: file.size_bytes for file in result.files} == {name: len(data) for name, data in FILES.items()}
    assert "The repository is private" in result.notes[0].text("en")
    assert look_up(ID).kind == "adapter"
    # once more, one file changed: the commit has it
    (made / "README.md").write_bytes(b"Better")
    assert push(made, asked(), JobProgress(job)).is_proved
    assert repo.files["README.md"] == b"Better"


def test_public_is_asked_for_and_a_public_one_is_never_taken_for_private(hub: HubServer, made: Path, job: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", WRITE)
    assert push(made, asked(private=False), JobProgress(job)).notes == []
    assert not hub.repos[ID].private
    hub.repos[ID].files.clear()
    assert refused(made, job) == f"{ID} already exists and is public. Push to another repository, or add --public."
    assert hub.repos[ID].files == {}


@pytest.mark.parametrize("is_there", [False, True])
def test_a_token_without_rights_is_one_sentence(hub: HubServer, made: Path, job: RunStore, monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:  # fmt: skip
    if is_there:
        hub.add(ID, {}, private=True)
    monkeypatch.setenv("HF_TOKEN", READ)
    assert refused(made, job) == (
        f"The token cannot write to {ID}. Create one with write access at {hub.endpoint}/settings/tokens and set `HF_TOKEN` to it."
    )
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    assert "rejected the token" in refused(made, job)


def test_a_hub_that_is_away_offline_mode_and_an_id_that_is_none(hub: HubServer, made: Path, job: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", WRITE)
    assert "is not a model on a hub" in refused(made, job, repo_id="../x")
    assert "Name the repository to push to" in refused(made, job, repo_id=None)
    with unreachable() as endpoint, monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", endpoint)
        assert f"The hub at {endpoint} cannot be reached" in refused(made, job)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "so nothing is pushed to the hub" in refused(made, job)


def test_a_link_is_not_pushed(hub: HubServer, made: Path, job: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", WRITE)
    (tmp_path / "secret").write_text("key")
    (made / "notes.txt").symlink_to(tmp_path / "secret")
    assert "notes.txt in" in refused(made, job)
    assert hub.repos == {}


def test_a_stop_leaves_nothing_of_it(hub: HubServer, made: Path, job: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", WRITE)

    def stop_and_answer(handler: Handler) -> None:
        job.stop_request.write_text("{}")
        handler.batch(ID)

    hub.instead["/objects/batch"] = stop_and_answer
    with pytest.raises(JobStoppedError):
        push(made, asked(), JobProgress(job))
    assert hub.repos[ID].files == {}


def test_what_the_hub_has_otherwise_fails_its_proof(hub: HubServer, made: Path, job: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", WRITE)
    hub.add(ID, {}, private=True, listing={"adapter_config.json": {"blobId": "0" * 40}})
    result = push(made, asked(), JobProgress(job))
    assert not result.is_proved
    assert "adapter_config.json at" in result.proofs[0].message.text("en")


def test_the_token_is_in_no_log_no_result_and_sent_to_no_other_host(hub: HubServer, made: Path, job: RunStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", WRITE)
    caplog.set_level(logging.DEBUG)
    result = push(made, asked(), JobProgress(job))
    assert WRITE not in json.dumps(result.to_json())
    assert WRITE not in caplog.text
    assert all(WRITE.encode() not in path.read_bytes() for path in job.path.rglob("*") if path.is_file())
    assert not any("Authorization" in headers for _, path, headers in hub.requests if path.startswith("/put/"))
