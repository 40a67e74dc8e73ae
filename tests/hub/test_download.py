"""A download is whole and right, or not there; it goes on where it broke off, and says what is wrong in one sentence."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

from lora_backend.hub.transfer import Transfer
from lora_backend.installation import this_installation
from lora_backend.launching.jobs import start_job
from lora_backend.models.find import find_adapter, find_model
from lora_backend.runs.processes.job_progress import JobProgress
from lora_backend.runs.record.job_documents import DownloadRequest, DownloadResult
from lora_backend.runs.record.transitions import request_stop
from tests.hub.stored import (
    FETCHED,
    ID,
    adapter_files,
    come,
    model_files,
    part_of,
    said,
    sharded_files,
    some_bytes,
    whole_or_absent,
)
from tests.hub_server import READ, HubServer, git_sha1, sha256
from tests.run_files import make_run
from tests.waiting import until

WEIGHTS = "model.safetensors"


def asked_ranges(hub: HubServer) -> list[str | None]:
    """Of each request for the bytes of the weights."""
    return [headers.get("Range") for _, path, headers in hub.requests if path.startswith("/files/")]


def test_what_was_downloaded_is_found_by_the_hubs_own_library(hub: HubServer, cache: Path) -> None:
    files = model_files()
    hub.add(ID, files, commit="c" * 40)
    run, result = come()
    assert result
    assert (run.state().state, result.commit) == ("finished", "c" * 40)
    assert result.size_bytes == result.downloaded_bytes == sum(len(files[name]) for name in FETCHED)
    assert whole_or_absent(cache, files)
    assert Path(result.path) == find_model(ID)
    assert try_to_load_from_cache(ID, "config.json") == f"{result.path}/config.json"
    assert Path(snapshot_download(ID, local_files_only=True, allow_patterns=FETCHED)) == Path(result.path)
    assert (cache / "models--acme--tiny-model/refs/main").read_text() == "c" * 40
    status = run.read_status().attempt
    assert status.outcome == "finished"


def test_it_is_loaded_by_its_id_without_network(hub: HubServer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from transformers import AutoModelForCausalLM, AutoTokenizer

    hub.add(ID, {path.name: path.read_bytes() for path in tiny_model.iterdir()})
    come()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert AutoModelForCausalLM.from_pretrained(ID).num_parameters() > 0
    assert AutoTokenizer.from_pretrained(ID)("the tower").input_ids


def test_an_adapter_comes_as_one(hub: HubServer, cache: Path) -> None:
    hub.add(ID, adapter_files())
    _, result = come()
    assert result
    assert Path(result.path) == find_adapter(ID)


def test_shards_come_after_the_index_that_lists_them(hub: HubServer) -> None:
    files = sharded_files()
    hub.add(ID, files)
    _, result = come()
    assert result
    assert {path.name for path in Path(result.path).iterdir()} == {name for name in files if not name.startswith(("consolidated", "model.fp16"))}  # fmt: skip


def test_a_second_download_brings_nothing_and_a_new_commit_only_what_changed(hub: HubServer, cache: Path) -> None:
    files = model_files()
    repo = hub.add(ID, files)
    come()
    _, again = come()
    assert again
    assert again.downloaded_bytes == 0
    files["config.json"] = b'{"model_type": "qwen2"}'
    repo.commit = "d" * 40
    _, newer = come()
    assert newer
    assert newer.downloaded_bytes == len(files["config.json"])
    assert find_model(ID).name == "d" * 40
    assert whole_or_absent(cache, files, commit="d" * 40)


def test_a_commit_stays_what_it_was_when_it_was_asked_for(hub: HubServer) -> None:
    hub.add(ID, model_files(), commit="b" * 40)
    _, result = come(commit="b" * 40)
    assert result
    assert result.commit == "b" * 40
    assert any("/revision/" + "b" * 40 in path for path in hub.paths())
    assert find_model(ID).name == "b" * 40, "and main is what it was called"


def test_another_revision_is_found_by_its_folder(hub: HubServer, cache: Path) -> None:
    hub.add(ID, model_files(), branches=("main", "refs/pr/1"))
    _, result = come(revision="refs/pr/1")
    assert result
    assert find_model(result.path) == Path(result.path)
    assert (cache / "models--acme--tiny-model/refs/refs/pr/1").read_text() == result.commit


def test_a_break_in_the_middle_is_gone_on_from_by_range(hub: HubServer, cache: Path) -> None:
    files = model_files()
    hub.add(ID, files)
    hub.breaks = {WEIGHTS: [70_000, 50_000], "config.json": [5]}
    _, result = come()
    assert result
    assert asked_ranges(hub) == [None, "bytes=70000-", "bytes=120000-"]
    assert result.downloaded_bytes == result.size_bytes
    assert whole_or_absent(cache, files)


def test_a_server_without_ranges_sends_it_again_from_the_start(hub: HubServer, cache: Path) -> None:
    files = model_files()
    hub.add(ID, files)
    hub.takes_ranges, hub.breaks = False, {WEIGHTS: [70_000]}
    come()
    assert whole_or_absent(cache, files)


def test_one_that_breaks_off_again_and_again_is_given_up_and_what_is_here_stays(hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("lora_backend.hub.download.WAITS_S", (0.0, 0.0, 0.0))
    files = model_files()
    hub.add(ID, files)
    hub.breaks = {WEIGHTS: [70_000, *[0] * 20]}
    run, _ = come()
    assert said(run).startswith(f"The download of {WEIGHTS} from {ID} failed 3 times in a row: ")
    assert said(run).endswith("What was downloaded is kept; download it again to continue.")
    assert not whole_or_absent(cache, files)
    partial = cache / "models--acme--tiny-model/blobs" / f"{sha256(files[WEIGHTS])}.incomplete"
    assert partial.read_bytes() == files[WEIGHTS][:70_000]
    hub.breaks, hub.requests = {}, []
    _, result = come()
    assert result
    assert asked_ranges(hub) == ["bytes=70000-"]
    assert result.downloaded_bytes == len(files[WEIGHTS]) - 70_000


@pytest.mark.parametrize(
    "left",
    [some_bytes(70_000, 9), some_bytes(200_000, 9), some_bytes(250_000, 9)],
    ids=["wrong", "wrong and as long as the file", "longer than the file"],
)
def test_what_an_earlier_download_left_is_not_believed(hub: HubServer, cache: Path, left: bytes) -> None:
    files = model_files()
    hub.add(ID, files)
    part_of(cache, sha256(files[WEIGHTS]), left)
    come()
    assert whole_or_absent(cache, files)


def test_a_link_in_the_place_of_a_partial_is_not_followed(hub: HubServer, cache: Path, tmp_path: Path) -> None:
    files = model_files()
    hub.add(ID, files)
    mine = tmp_path / "thesis.tex"
    mine.write_text("years")
    part = part_of(cache, sha256(files[WEIGHTS]), b"")
    part.unlink()
    part.symlink_to(mine)
    run, _ = come()
    assert "is a symbolic link, which is not followed here" in said(run)
    assert mine.read_text() == "years"


def test_a_stop_is_a_pause_that_the_next_download_goes_on_from(hub: HubServer, cache: Path) -> None:
    files = model_files()
    hub.add(ID, files)
    hub.holds[WEIGHTS] = threading.Event()
    run = start_job(DownloadRequest(repo_id=ID), this_installation(), name=ID)
    partial = cache / "models--acme--tiny-model/blobs" / f"{sha256(files[WEIGHTS])}.incomplete"
    until(lambda: partial.exists() and partial.stat().st_size, "the first bytes")
    request_stop(run, "anna")
    hub.holds[WEIGHTS].set()
    until(run.exit_json.exists, "the pause")
    assert run.state().state == "stopped"
    left = partial.stat().st_size
    assert 0 < left < len(files[WEIGHTS])
    assert not whole_or_absent(cache, files)
    _, result = come()
    assert result
    assert result.downloaded_bytes == len(files[WEIGHTS]) - left
    assert asked_ranges(hub)[-1] == f"bytes={left}-"
    assert whole_or_absent(cache, files)


def test_two_downloads_of_one_file_at_once_fetch_it_once(hub: HubServer, cache: Path) -> None:
    files = model_files()
    hub.add(ID, files)
    hub.holds[WEIGHTS] = threading.Event()
    runs = [start_job(DownloadRequest(repo_id=ID), this_installation(), name=ID) for _ in range(2)]

    def details() -> list[str]:
        found = [run.read_status().attempt.detail for run in runs]
        return [detail.text("en") for detail in found if detail]

    until(lambda: "waiting for another download of the same file" in details(), "the second waits")
    hub.holds[WEIGHTS].set()
    for run in runs:
        until(run.exit_json.exists, "the end")
    assert [run.state().state for run in runs] == ["finished", "finished"]
    assert len(asked_ranges(hub)) == 1
    results = [run.read_result(DownloadResult) for run in runs]
    assert sorted(result.downloaded_bytes for result in results if result)[0] < len(files[WEIGHTS])
    assert whole_or_absent(cache, files)


def test_what_has_no_room_is_refused_before_the_first_byte(hub: HubServer, cache: Path) -> None:
    hub.add(ID, model_files(), listing={WEIGHTS: {"size": 2**52}})
    run, _ = come()
    sentence = said(run)
    assert sentence.startswith(f"{ID} needs 4194304.00 GiB more, but {cache} has ")
    assert sentence.endswith("Free some space, or set `HF_HUB_CACHE` to a folder on another disk.")
    assert run.state().cause == "disk_full"
    assert not any("/resolve/" in path for path in hub.paths())


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        ({WEIGHTS: {"size": 199_000}}, "it has 195.31 KiB, not 194.34 KiB"),
        ({WEIGHTS: {"size": 300_000}}, "it has 195.31 KiB, not 292.97 KiB"),
        ({WEIGHTS: {"sha256": "0" * 64}}, "its etag differs"),
        ({"config.json": {"blobId": "0" * 40}}, "its etag differs"),
    ],
)
def test_a_list_that_lies_is_found_out(hub: HubServer, cache: Path, listing: dict[str, Any], reason: str) -> None:
    hub.add(ID, model_files(), listing=listing)
    run, _ = come()
    (name,) = listing
    assert said(run) == (
        f"{name} of {ID} is not the file that the hub lists ({reason}), so it was not kept. Try again; if that does not help, check `HF_ENDPOINT` and the proxy."
    )
    assert not (cache / "models--acme--tiny-model/snapshots").exists()


def test_bytes_that_are_others_or_more_than_listed_are_not_kept(hub: HubServer, cache: Path) -> None:
    files = model_files()
    hub.add(ID, files)
    other = some_bytes(len(files[WEIGHTS]), 7)
    for data, reason in ((other, "its hash differs"), (other + b"x", "it is larger than 195.31 KiB")):

        def send(handler: Any, data: bytes = data) -> None:
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")

        hub.instead["^/files/"] = send
        run, _ = come()
        assert reason in said(run)
        assert not list((cache / "models--acme--tiny-model/blobs").glob("*.incomplete"))
    hub.instead.clear()
    come()
    assert whole_or_absent(cache, files)


def test_a_file_of_another_commit_is_not_kept(hub: HubServer) -> None:
    repo = hub.add(ID, {"config.json": b"{}", WEIGHTS: b"w"})
    tag = git_sha1(b"{}")
    hub.instead["/config.json"] = lambda handler: handler.reply(200, b"{}", X_Repo_Commit="e" * 40, ETag=f'"{tag}"')
    run, _ = come()
    assert "it is of another commit" in said(run)
    assert repo.commit == "a" * 40


def test_weights_that_the_index_lists_and_the_repository_lacks_are_said_before_they_are_fetched(hub: HubServer) -> None:
    files = sharded_files()
    del files["model-00002-of-00002.safetensors"]
    hub.add(ID, files)
    run, _ = come()
    assert said(run) == (
        f"{ID} lists its weights in model.safetensors.index.json, but has no model-00002-of-00002.safetensors, so it is not downloaded."
    )
    assert not any(path.startswith("/files/") for path in hub.paths())
    files["model.safetensors.index.json"] = b"[]"
    assert "cannot be read, so its weights are not downloaded" in said(come()[0])


def test_what_is_refused_fails_the_job_with_its_sentence(hub: HubServer) -> None:
    hub.add(ID, {"config.json": b"{}", "pytorch_model.bin": b"x"})
    assert "has only pickled weights" in said(come()[0])
    assert "There is no acme/nothing" in said(come("acme/nothing")[0])
    assert "is not a model on a hub" in said(come("../../etc")[0])


def test_the_token_goes_to_the_hub_alone_and_into_no_file(hub: HubServer, cache: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", READ)
    hub.add(ID, model_files(), gated="auto", accepted={READ})
    hub.breaks = {WEIGHTS: [10_000]}
    come()
    sent = {path.split("/")[1]: headers.get("Authorization") for _, path, headers in hub.requests}
    assert sent["api"] == sent["acme"] == f"Bearer {READ}"
    assert sent["files"] is None
    for root in (workspace, cache):
        for path in root.rglob("*"):
            if path.is_file():
                assert READ.encode() not in path.read_bytes(), path
                assert b"signature=secret" not in path.read_bytes(), path


def test_a_model_that_was_half_there_is_made_whole(hub: HubServer, cache: Path) -> None:
    """As the hub's own library leaves it, after its first file."""
    files = model_files()
    hub.add(ID, files)
    folder = cache / "models--acme--tiny-model"
    for name, text in (("refs/main", "a" * 40), (f"snapshots/{'a' * 40}/config.json", "{")):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    come()
    assert whole_or_absent(cache, files)


def test_progress_has_bytes_speed_and_time_left(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_backend.hub.transfer.FIRST_S", 0.0)
    monkeypatch.setattr("lora_backend.runs.processes.job_progress.WRITE_EVERY_S", 0.0)
    run = make_run(workspace / "runs", kind="download", config={"repo_id": ID}, config_text="", argv=["x"], state="running")  # fmt: skip
    transfer = Transfer(JobProgress(run), total_bytes=4096, before_bytes=1024)
    transfer.at(1024, 0)
    told = run.read_status().attempt
    assert told.detail
    assert told.detail.text("en") == "1.00 KiB of 4.00 KiB"
    transfer.at(2048, 1024)
    told = run.read_status().attempt
    assert told.detail
    assert re.fullmatch(r"2.00 KiB of 4.00 KiB, [\d.]+ [KMG]?i?B/s, \d+ s left", told.detail.text("en"))
    assert (told.fraction, transfer.came_bytes) == (0.5, 1024)
    assert told.eta_s is not None
