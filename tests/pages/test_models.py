"""The page of models, against a hub on this machine: look up, download, watch, pause, go on, cancel, delete."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.hub import hub_client
from lora_backend.installation import this_installation
from lora_backend.runs.record.job_documents import DownloadRequest
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore, list_runs
from pages.parts.job.downloaded import start_download
from pages.parts.widgets.adapters_listed import forget_adapters
from pages.parts.widgets.models_here import forget_models
from tests.adapter_files import adapter_files, zipped
from tests.hub_server import HubServer
from tests.pages.screens import show, texts
from tests.run_files import end_run, make_run, set_status
from tests.tiny import STUB, stub_model
from tests.waiting import until

WEIGHTS = (2).to_bytes(8, "little") + b"{}"
COMMIT = "a" * 40


@pytest.fixture
def cache(places: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    forget_models()
    forget_adapters()
    return folder


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        server.add("org/tiny", {"config.json": json.dumps(STUB).encode(), "model.safetensors": WEIGHTS, "x.bin": b"no"})
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        yield server
        for run in list_runs(this_installation().runs):
            until(lambda run=run: run.state().has_ended, "the download has ended")  # type: ignore[misc]


def jobs() -> list[RunStore]:
    return list_runs(this_installation().runs)


def labels(at: AppTest) -> list[str]:
    return [button.label for button in at.button]


def test_an_empty_page_asks_no_network_and_helps(hub: HubServer) -> None:
    at = show("models", model="org/tiny")
    assert "No models here yet" in texts(at)
    assert at.selectbox(key="models-id").value == "org/tiny", "the address is shared"
    assert hub.requests == []
    assert show("models").button(key="look_up").disabled


def test_a_model_is_looked_up_downloaded_and_then_here(hub: HubServer, cache: Path) -> None:
    at = show("models", model="org/tiny")
    at.button(key="look_up").click().run()
    said = texts(at)
    assert "**org/tiny** at commit aaaaaaaaaaaa" in said
    assert "to download" in said
    assert "free on the disk" in said
    assert at.dataframe[0].value["File"].tolist() == ["config.json", "model.safetensors"], "no pickled weights"
    at.button(key="download").click().run()
    (job,) = jobs()
    request = DownloadRequest.read(job.read_record().config)
    assert (request.repo_id, request.revision, request.commit) == ("org/tiny", "main", COMMIT)
    until(lambda: job.state().has_ended, "the download has ended")
    assert job.state().state == "finished", job.train_log.read_text()
    forget_models()
    at = show("models")
    assert "**org/tiny**" in texts(at)
    assert "hub cache" in texts(at)
    assert "Downloads" not in [head.value for head in at.header]


def test_a_whole_model_is_deleted_after_a_look_that_says_it_cannot_be_undone(hub: HubServer, cache: Path) -> None:
    repository = cache / "models--org--tiny"
    stub_model(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    at = show("models")
    assert "You can download it again." in texts(at)
    at.button(key="delete-org/tiny").click().run()
    assert not at.exception
    assert not repository.exists()
    assert "No models here yet" in texts(at)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_gated_model_is_explained_with_where_to_go_and_where_a_token_goes(hub: HubServer, lang: str) -> None:
    hub.add("meta/gated", {"config.json": b"{}", "model.safetensors": WEIGHTS}, gated="auto")
    at = show("models", model="meta/gated", lang=lang)
    at.button(key="look_up").click().run()
    assert "HF_TOKEN" in at.error[0].value
    assert "hf auth login" in texts(at)
    urls = [link.proto.url for link in at.get("link_button") if not link.proto.url.startswith("/docs")]
    assert urls == [f"{hub.endpoint}/meta/gated", f"{hub.endpoint}/settings/tokens"]
    assert "download" not in [button.key for button in at.button]
    assert jobs() == []


@pytest.mark.parametrize(
    ("model", "revision", "words"),
    [
        ("org/none", "", "There is no org/none at"), ("org/tiny", "v9", "has no revision v9"), ("../etc", "", "is not a model on a hub"),
        ("org/tiny", "a b", "is not a revision"), ("<b>x</b>", "", "is not a model on a hub"),
    ],
)  # fmt: skip
def test_what_the_hub_does_not_have_is_one_sentence(hub: HubServer, model: str, revision: str, words: str) -> None:
    at = show("models", model=model, **({"revision": revision} if revision else {}))
    at.button(key="look_up").click().run()
    assert [words in error.value.replace("\\", "") for error in at.error] == [True]


def test_a_hub_that_does_not_answer_is_one_sentence(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    at = show("models", model="org/tiny")
    at.button(key="look_up").click().run()
    assert "cannot be reached" in at.error[0].value


def test_no_room_is_said_before_a_byte_comes(hub: HubServer) -> None:
    hub.add(
        "org/huge", {"config.json": b"{}", "model.safetensors": WEIGHTS}, listing={"model.safetensors": {"size": 2**52}}
    )
    at = show("models", model="org/huge")
    at.button(key="look_up").click().run()
    assert "Free some space" in at.error[0].value
    assert at.button(key="download").disabled
    assert not [path for path in hub.paths() if "resolve" in path]


def test_a_download_is_paused_and_goes_on_and_is_cancelled(hub: HubServer, cache: Path) -> None:
    hub.add("org/slow", {"config.json": json.dumps(STUB).encode(), "model.safetensors": os.urandom(400_000)})
    hub.holds["model.safetensors"] = threading.Event()
    at = show("models", model="org/slow")
    at.button(key="look_up").click().run()
    at.button(key="download").click().run()
    (first,) = jobs()
    until(lambda: first.state().stage == "downloading" and list(cache.rglob("*.incomplete")), "bytes have come")
    at = show("models")
    assert {"Pause", "Cancel"} <= set(labels(at))
    assert "downloading" in " ".join(bar.proto.text for bar in at.get("progress"))
    at.button(key=f"pause-{first.id}").click().run()
    until(lambda: first.state().has_ended, "it has stopped")
    at = show("models")
    assert "kept; they are not downloaded again." in texts(at)
    at.button(key=f"resume-{first.id}").click().run()
    second = jobs()[0]
    assert second.id != first.id
    assert DownloadRequest.read(second.read_record().config).commit == COMMIT
    until(lambda: second.state().stage == "downloading", "it goes on")
    at.run()
    assert f"pause-{first.id}" not in [button.key for button in at.button], "one row for one model"
    at.button(key=f"cancel-{second.id}").click().run()
    until(lambda: second.state().has_ended, "it has ended")
    at.run()
    until(lambda: not (cache / "models--org--slow").exists(), "what was there is gone")
    assert "org/slow" not in texts(show("models"))


def test_what_a_download_brought_is_listed_also_where_another_click_came_before_its_end_was_seen(
    hub: HubServer, tmp_path: Path
) -> None:
    config = {"repo_id": "org/tiny", "revision": "main", "commit": COMMIT}
    job = make_run(this_installation().runs, config=config, config_text="", argv=None, kind="download", name="org/tiny")
    mine = identify(os.getpid())
    assert mine
    set_status(job, state="running", stage="downloading", trainer=mine.to_json(), supervisor=mine.to_json())
    at = show("models")
    assert "Downloads" in [header.value for header in at.header]
    stub_model(tmp_path / "brought")
    end_run(job, "finished")
    at.run()
    assert "Downloads" not in [header.value for header in at.header]
    assert "brought" in texts(at)


def test_a_download_that_failed_says_why_and_is_resumed(hub: HubServer) -> None:
    config = {"repo_id": "org/tiny", "revision": "main", "commit": COMMIT}
    job = make_run(this_installation().runs, config=config, config_text="", argv=None, kind="download", name="org/tiny")
    set_status(job, state="running")
    end_run(job, "failed", cause="error", message=hub_client.HubAwayError(hub.endpoint, "it is away").message)
    at = show("models")
    assert "cannot be reached" in at.error[0].value
    at.button(key=f"resume-{job.id}").click().run()
    until(lambda: any(one.id != job.id and one.state().has_ended for one in jobs()), "it was downloaded")
    assert sorted(one.state().state for one in jobs()) == ["failed", "finished"]


def test_an_uploaded_adapter_is_listed_with_its_base_model_and_deleted(cache: Path) -> None:
    at = show("models")
    at.file_uploader(key="models_upload").set_value([("shop.zip", zipped(adapter_files()), "application/zip")]).run()
    (folder,) = this_installation().uploaded_adapters.iterdir()
    assert f"**{folder.name}**" in texts(at)
    assert "adapter of tiny" in texts(at)
    at.button(key=f"delete-{folder.name}").click().run()
    assert not folder.exists()
    assert f"**{folder.name}**" not in texts(at)


def test_a_model_in_a_folder_is_listed_and_is_not_ours_to_delete(cache: Path, tmp_path: Path) -> None:
    model = stub_model(tmp_path / "models/m")
    at = show("models")
    assert str(model) in texts(at).replace("\\", "")
    assert "Yes, delete it" not in labels(at)
    at.button(key=f"use-{model}").click().run()
    (draft,) = this_installation().drafts.iterdir()
    assert f"model_name: {model}" in (draft / "config.yaml").read_text()


def test_the_page_of_a_download_has_its_buttons_and_then_the_ways_on(hub: HubServer, cache: Path) -> None:
    config = {"repo_id": "org/tiny", "revision": "main", "commit": COMMIT}
    job = make_run(this_installation().runs, config=config, config_text="", argv=None, kind="download", name="org/tiny")
    set_status(job, state="running")
    assert {"Pause", "Cancel"} <= set(labels(show("runs", run=job.id)))
    end_run(job, "stopped")
    left = cache / "models--org--tiny/blobs" / ("b" * 64 + ".incomplete")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    at = show("runs", run=job.id)
    assert "4 B kept" in texts(at)
    at.button(key=f"discard-{job.id}").click().run()
    assert not left.exists()
    newer = start_download(DownloadRequest.read(config))
    until(lambda: newer.state().has_ended, "it was downloaded")
    at = show("runs", run=newer.id)
    assert "org/tiny at aaaaaaaaaaaa" in at.success[0].value
    assert {"Plan", "All models and downloads"} <= {link.label for link in at.get("page_link")}
    at.button(key="use_downloaded").click().run()
    (draft,) = this_installation().drafts.iterdir()
    assert "model_name: org/tiny" in (draft / "config.yaml").read_text()
    shutil.rmtree(cache)
    assert "no longer in the cache" in show("runs", run=newer.id).warning[0].value
