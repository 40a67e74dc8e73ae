"""What lies in the hub's cache is listed with its sizes, and deleted from there alone, never under who uses it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from filelock import FileLock

from lora_backend.hub.cache import cached_repositories, cached_repository, delete_cached, delete_partials
from lora_backend.hub.hub_names import HubError
from lora_backend.hub.repository import look_up
from lora_backend.hub.room import room_for
from lora_backend.installation import this_installation
from lora_backend.launching.jobs import start_job
from lora_backend.models.find import find_model
from lora_backend.runs.record.job_documents import DownloadRequest, EvaluateRequest
from lora_backend.runs.record.transitions import request_stop
from lora_backend.symlinks import LinkRefusedError
from tests.hub.stored import FETCHED, ID, adapter_files, come, model_files, part_of
from tests.hub_server import HubServer, sha256
from tests.run_files import end_run, make_run
from tests.waiting import until

OTHER = "acme/an-adapter"


def test_what_is_there_is_listed_with_sizes_and_what_is_half_there(hub: HubServer, cache: Path) -> None:
    assert cached_repositories(this_installation()) == []
    files = model_files()
    hub.add(ID, files)
    hub.add(OTHER, adapter_files(), commit="b" * 40)
    come(ID)
    come(OTHER, revision="b" * 40)
    part_of(cache, "f" * 64, b"x" * 500)
    part_of(cache, "e" * 64, b"x" * 100, "acme/begun")
    for name in ("datasets--acme--rows", "models--no--good--id", ".locks", "models--a"):
        (cache / name).mkdir(exist_ok=True)
    begun, adapter, model = sorted(cached_repositories(this_installation()), key=lambda one: one.size_bytes)
    assert [one.repo_id for one in cached_repositories(this_installation())] == [OTHER, "acme/begun", ID]
    assert (begun.kind, begun.commits, begun.size_bytes, begun.partial_bytes) == ("part", (), 100, 100)
    assert (adapter.kind, adapter.commits, adapter.is_main) == ("adapter", ("b" * 40,), False)
    assert (model.kind, model.commits, model.is_main, model.partial_bytes) == ("model", ("a" * 40,), True, 500)
    assert model.size_bytes == sum(len(files[name]) for name in FETCHED) + 500 + len("a" * 40)  # what is called main
    assert model.last_used


def test_room_counts_what_is_still_to_come(hub: HubServer, cache: Path) -> None:
    files = model_files()
    hub.add(ID, files)
    found = look_up(ID)
    assert room_for(found, this_installation()).missing_bytes == found.total_bytes
    part_of(cache, sha256(files["model.safetensors"]), files["model.safetensors"][:1000])
    assert room_for(found, this_installation()).missing_bytes == found.total_bytes - 1000
    come()
    room = room_for(look_up(ID), this_installation())
    assert (room.missing_bytes, room.message) == (0, None)
    assert room.free_bytes > 0


def test_deleting_takes_all_of_one_and_nothing_else(hub: HubServer, cache: Path) -> None:
    hub.add(ID, model_files())
    hub.add(OTHER, adapter_files())
    come(ID)
    come(OTHER)
    before = cached_repository(ID, this_installation()).size_bytes
    assert delete_cached(ID, this_installation()) == before
    assert [one.repo_id for one in cached_repositories(this_installation())] == [OTHER]
    assert not list(cache.rglob("*tiny-model*"))
    with pytest.raises(HubError, match=f"has nothing of {ID}"):
        delete_cached(ID, this_installation())
    with pytest.raises(HubError, match="is not a model on a hub"):
        delete_cached("../../home", this_installation())


def test_a_given_up_download_is_deleted_and_what_is_whole_stays(hub: HubServer, cache: Path) -> None:
    hub.add(ID, model_files())
    come()
    part_of(cache, "f" * 64, b"x" * 500)
    assert delete_partials(ID, this_installation()) == 500
    assert find_model(ID)
    part_of(cache, "e" * 64, b"x" * 100, "acme/begun")
    assert delete_partials("acme/begun", this_installation()) == 100
    assert not (cache / "models--acme--begun").exists()


@pytest.mark.parametrize("place", ["", "snapshots", "blobs/linked", "snapshots/linked"])
def test_nothing_is_deleted_through_a_link(hub: HubServer, cache: Path, tmp_path: Path, place: str) -> None:
    thesis = tmp_path / "Documents" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years")
    link = cache / "models--acme--tiny-model" / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(thesis.parent)
    if place.endswith("linked"):
        delete_cached(ID, this_installation())
    else:
        with pytest.raises(LinkRefusedError):
            delete_cached(ID, this_installation())
    assert thesis.read_text() == "years"


@pytest.mark.parametrize("by", ["id", "folder", "base_model"])
def test_what_a_run_uses_stays_until_it_has_ended(hub: HubServer, workspace: Path, by: str) -> None:
    hub.add(ID, model_files())
    come()
    config = {"model_name": str(find_model(ID)) if by == "folder" else ID}
    kind = "train"
    if by == "base_model":
        kind, config = "evaluate", EvaluateRequest(base_model=ID, columns=[]).to_json()
    run = make_run(workspace / "runs", config=config, config_text="", argv=["true"], state="starting", kind=kind)
    for delete in (delete_cached, delete_partials):
        with pytest.raises(HubError, match=f"Run {run.id} is using {ID}, so it was not deleted"):
            delete(ID, this_installation())
    end_run(run, "finished")
    delete_cached(ID, this_installation())


def test_what_is_being_downloaded_stays(hub: HubServer, cache: Path) -> None:
    files = model_files()
    hub.add(ID, files)
    hub.holds["model.safetensors"] = threading.Event()
    run = start_job(DownloadRequest(repo_id=ID), this_installation(), name=ID)
    partial = cache / "models--acme--tiny-model/blobs" / f"{sha256(files['model.safetensors'])}.incomplete"
    until(partial.exists, "it begins")
    with pytest.raises(HubError, match=run.id):
        delete_partials(ID, this_installation())
    request_stop(run, "anna")
    hub.holds["model.safetensors"].set()
    until(run.exit_json.exists, "the pause")
    assert delete_partials(ID, this_installation()) > 0
    assert not partial.exists()


def test_what_another_program_downloads_stays(hub: HubServer, cache: Path) -> None:
    hub.add(ID, model_files())
    come()
    with FileLock(cache / ".locks/models--acme--tiny-model/x.lock"), pytest.raises(HubError, match="Another program is downloading"):  # fmt: skip
        delete_cached(ID, this_installation())
    assert find_model(ID)
