"""`download` as a script and a person see it: one document, progress on stderr, exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lora_backend.cli import main
from lora_backend.installation import child_environment, this_installation
from lora_backend.models.find import find_model
from lora_backend.runs.record.run_store import open_run
from tests.command_line import strict
from tests.hub.stored import FETCHED, ID, model_files, part_of
from tests.hub_server import HubServer, sha256, unreachable
from tests.waiting import until

Captured = pytest.CaptureFixture[str]


def test_a_download_prints_one_document_and_its_progress_apart(hub: HubServer, capfd: Captured) -> None:
    hub.add(ID, model_files())
    assert main(["download", ID, "--json"]) == 0
    out, err = capfd.readouterr()
    document = strict(out)
    assert document["state"] == "finished"
    assert document["path"] == str(find_model(ID))
    assert document["commit"] == "a" * 40
    assert document["size_bytes"] == document["downloaded_bytes"]
    assert f"{ID} at {'a' * 12}: {len(FETCHED)} files, 195.39 KiB. To download: 195.39 KiB; free: " in err
    assert main(["download", ID]) == 0
    assert capfd.readouterr().out.strip() == str(find_model(ID))


def test_a_process_of_its_own_honours_the_environment_and_shows_how_far_it_is(hub: HubServer) -> None:
    hub.add(ID, model_files())
    hub.pause_s = 0.1
    command = [sys.executable, "-m", "lora_backend", "download", ID, "--json"]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert strict(done.stdout)["state"] == "finished"
    assert "downloading" in done.stderr
    assert "signature=secret" not in done.stderr


def test_ctrl_c_pauses_and_says_how_to_go_on(hub: HubServer, cache: Path) -> None:
    files = model_files()
    hub.add(ID, files)
    hub.holds["model.safetensors"] = threading.Event()
    command = [sys.executable, "-m", "lora_backend", "download", ID]
    process = subprocess.Popen(command, env=child_environment(), stderr=subprocess.PIPE, text=True)
    partial = cache / "models--acme--tiny-model/blobs" / f"{sha256(files['model.safetensors'])}.incomplete"
    until(lambda: partial.exists() and partial.stat().st_size, "the first bytes")
    process.send_signal(signal.SIGINT)
    (run,) = this_installation().runs.iterdir()
    until((run / "stop.request").exists, "the stop is asked for")
    hub.holds["model.safetensors"].set()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Pausing: what was downloaded is kept, and the next download continues from it." in err
    assert f"Stopped. What was downloaded is kept. Continue with: flightdeck download {ID}" in err
    assert partial.stat().st_size


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["acme/pickled"], 1, "has only pickled weights"),
        (["acme/gated"], 1, "is gated"),
        (["acme/huge"], 1, "Free some space"),
        (["acme/nothing"], 2, "There is no acme/nothing"),
        (["gpt2"], 2, "is not a model on a hub"),
        ([ID, "--revision", "v9"], 2, "has no revision v9"),
        ([ID, "--delete", "--yes"], 2, "has nothing of acme/tiny-model"),
        ([], 2, "Name a model on the hub"),
    ],
)
def test_a_no_is_told_from_a_wrong_question(hub: HubServer, capfd: Captured, words: list[str], code: int, sentence: str) -> None:  # fmt: skip
    hub.add(ID, model_files())
    hub.add("acme/pickled", {"config.json": b"{}", "pytorch_model.bin": b""})
    hub.add("acme/gated", model_files(), gated="auto")
    hub.add("acme/huge", model_files(), listing={"model.safetensors": {"size": 2**52}})
    assert main(["download", *words, "--json"]) == code
    assert sentence in strict(capfd.readouterr().out)["error"]
    assert main(["download", *words]) == code
    assert sentence in capfd.readouterr().err
    assert not this_installation().runs.exists(), "nothing was begun"


def test_a_hub_that_is_away_is_one_sentence(hub: HubServer, capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    with unreachable() as endpoint:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        assert main(["download", ID]) == 2
    err = capfd.readouterr().err
    assert f"The hub at {endpoint} cannot be reached" in err
    assert "Traceback" not in err


def test_what_breaks_in_the_middle_fails_with_its_sentence(hub: HubServer, capfd: Captured) -> None:
    hub.add(ID, model_files(), listing={"model.safetensors": {"sha256": "0" * 64}})
    assert main(["download", ID, "--json"]) == 1
    out, err = capfd.readouterr()
    document = strict(out)
    assert document["state"] == "failed"
    assert "is not the file that the hub lists" in document["error"]
    assert "Traceback" not in err


def test_detached_it_is_a_run_like_any_other(hub: HubServer, capfd: Captured) -> None:
    hub.add(ID, model_files())
    assert main(["download", ID, "--detach", "--json"]) == 0
    run = open_run(this_installation().runs, strict(capfd.readouterr().out)["run"])
    until(run.exit_json.exists, "the end")
    assert run.state().state == "finished"
    assert find_model(ID)
    assert main(["runs", "list", "--json"]) == 0
    (row,) = strict(capfd.readouterr().out)["runs"]
    assert (row["kind"], row["name"]) == ("download", ID)


def test_the_cache_is_listed_and_deleted_from(hub: HubServer, cache: Path, capfd: Captured) -> None:
    assert main(["download", "--list"]) == 0
    assert capfd.readouterr().out == "The hub's cache is empty.\n"
    hub.add(ID, model_files())
    main(["download", ID])
    part_of(cache, "f" * 64, b"x" * 2048)
    capfd.readouterr()
    assert main(["download", "--list"]) == 0
    head, line = capfd.readouterr().out.splitlines()
    assert head.split() == ["Model", "Kind", "Size", "Partly", "downloaded", "Last", "used"]
    assert line.split()[:6] == [ID, "model", "197.43", "KiB", "2.00", "KiB"]
    assert main(["download", "--list", "--json"]) == 0
    document = strict(capfd.readouterr().out)
    assert [one["repo_id"] for one in document["repositories"]] == [ID]
    assert document["size_bytes"] == document["repositories"][0]["size_bytes"]
    assert main(["download", ID, "--delete"]) == 2, "nobody can be asked"
    assert "Add --yes" in capfd.readouterr().err
    assert main(["download", ID, "--delete", "--partial", "--yes"]) == 0
    assert capfd.readouterr().out == f"Deleted 2.00 KiB of {ID}.\n"
    assert find_model(ID)
    assert main(["download", ID, "--delete", "--yes", "--json"]) == 0
    assert strict(capfd.readouterr().out)["freed_bytes"] > 200_000
    assert not list(cache.glob("models--*"))
