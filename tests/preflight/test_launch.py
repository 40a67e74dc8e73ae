"""Before a run: drafts, paths bound to the roots, and refusals that leave nothing behind."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import new_draft, open_draft
from lora_backend.errors import ConfigError, DataError, FlightdeckError, ModelError
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.launch import start_run
from lora_backend.launching.requests import StartRequest
from lora_backend.planning.cost.profile import Profile
from lora_backend.preflight.roots import allowed_model
from lora_backend.preflight.startable import judge
from lora_backend.runs.processes.recovery import recover, recover_all
from lora_backend.runs.processes.waiting import entries
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.run_store import RunStore
from tests.resolving import bound, from_browser, from_here, launch_from_browser


@pytest.fixture
def places(tmp_path: Path) -> Installation:
    environ = {
        "FLIGHTDECK_WORKSPACE": str(tmp_path / "ws"),
        "FLIGHTDECK_MODEL_ROOTS": str(tmp_path / "models"),
        "FLIGHTDECK_DATA_ROOTS": str(tmp_path / "data"),
    }
    (tmp_path / "models/m").mkdir(parents=True)
    (tmp_path / "models/m/config.json").write_text("{}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/d.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    return this_installation(environ)


def test_paths_inside_the_roots_are_bound(places: Installation, tmp_path: Path) -> None:
    values = {"model_name": str(tmp_path / "models/m"), "dataset": "d.jsonl", "output_dir": "adapters"}
    assert bound(values, places)["dataset"] == str(tmp_path / "data/d.jsonl")


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("model_name", "/etc", ModelError),
        ("model_name", "MODELS/../outside", ModelError),
        ("model_name", "MODELS/link", ModelError),
        ("model_name", "../models", ModelError),
        ("dataset", "/etc/passwd", DataError),
        ("dataset", "../../etc/passwd", DataError),
        ("questions", "/etc/passwd", DataError),
        ("output_dir", "../../elsewhere", ConfigError),
        ("output_dir", "/tmp/elsewhere", ConfigError),
    ],
)
def test_paths_outside_the_roots_are_refused(
    key: str, value: str, error: type[Exception], places: Installation, tmp_path: Path
) -> None:
    (tmp_path / "models/link").symlink_to("/etc")
    with pytest.raises(error):
        bound({key: value.replace("MODELS", str(tmp_path / "models"))}, places)


def test_the_check_says_what_lies_outside_and_reads_nothing_of_it(places: Installation, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text("this is the secret")
    document = parse_config(f"model_name: /etc\ndataset: {tmp_path / 'secret.jsonl'}\nr: x\n")
    findings = judge(from_browser(document, places)).result.findings
    assert {finding.key for finding in findings} == {"model_name", "dataset", "r"}
    outside = [finding.message.text("en") for finding in findings if finding.key != "r"]
    assert all("outside the folders" in sentence for sentence in outside)
    assert {finding.line for finding in findings} == {1, 2, 3}


def test_a_model_outside_the_roots_is_not_even_looked_at(places: Installation, tmp_path: Path) -> None:
    for name in ("/etc", "../models", str(tmp_path)):
        with pytest.raises(ModelError, match="outside"):
            allowed_model(name, places)
    assert allowed_model(str(tmp_path / "models/m"), places) == tmp_path / "models/m"


def no_trace(*_: object) -> Profile:
    raise AssertionError("nothing is planned for a launch that is refused")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model_name: [",
        "model_name: {m}\nr: x\ndataset: d.jsonl\n",
        "model_name: {m}\n",
        "model_name: a/b\ndataset: d.jsonl\n",
        "model_name: {m}\ndataset: none.jsonl\n",
    ],
)
def test_a_launch_that_is_refused_makes_no_run(text: str, places: Installation, tmp_path: Path) -> None:
    with pytest.raises(FlightdeckError):
        launch_from_browser(text.replace("{m}", str(tmp_path / "models/m")), places, no_trace)
    assert not places.runs.exists()


def test_what_is_not_on_this_machine_and_what_is_broken_is_a_warning_of_the_text(
    places: Installation, tmp_path: Path
) -> None:
    def severities(**values: str) -> set[str]:
        return {
            finding.severity
            for finding in from_here({"model_name": str(tmp_path / "models/m"), **values}).result.findings
        }

    assert severities(dataset=str(tmp_path / "none.jsonl")) == {"warning"}
    assert [f.severity for f in from_here({"model_name": "no/where"}).result.findings] == ["warning"]
    (tmp_path / "broken.jsonl").write_text("{")
    assert severities(dataset=str(tmp_path / "broken.jsonl")) == {"warning"}


def test_two_clicks_at_once_are_one_launch(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "model_name: m\n")
    started = threading.Barrier(8)
    launched: list[str] = []
    answers: list[str] = []

    def launch() -> str:
        launched.append("x")
        return f"run-{len(launched)}"

    def click() -> None:
        started.wait()
        answers.append(draft.launch_once(0, launch))

    threads = [threading.Thread(target=click) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert launched == ["x"]
    assert set(answers) == {"run-1"}
    assert draft.launch_once(1, launch) == "run-2"
    assert draft.launches() == ["run-1", "run-2"]


def test_a_launch_that_raised_can_be_tried_again(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "model_name: m\n")

    def fail() -> str:
        raise ConfigError("no")

    with pytest.raises(ConfigError):
        draft.launch_once(0, fail)
    assert draft.launch_once(0, lambda: "run") == "run"


@pytest.mark.parametrize("draft_id", ["..", "zz", "0123abcd", "a/b", ""])
def test_a_draft_that_is_none_is_a_sentence(draft_id: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        open_draft(tmp_path, draft_id)


def test_a_run_is_not_seen_before_it_says_which_gpus_it_waits_for(
    places: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, seen = RunStore.write_attempt_file, []

    def while_a_page_looks(self: RunStore, attempt: Attempt) -> None:
        recover_all(places.runs)
        recover(self)
        seen.extend(entries(places.workspace))
        write(self, attempt)

    monkeypatch.setattr(RunStore, "write_attempt_file", while_a_page_looks)
    monkeypatch.setattr("lora_backend.runs.processes.recovery.start_queue", lambda _: None)
    monkeypatch.setattr("lora_backend.launching.launch.start_or_queue", lambda *_: False)
    attempt = Attempt(device_uuids=["GPU-a"])
    run = start_run(StartRequest(from_here({}, places)), places.runs / "one", ["true"], attempt)
    assert not seen, "a queue would start it on no GPU"
    recover(run)
    assert [entry.keys for entry in entries(places.workspace)] == [("GPU-a",)]


def test_a_run_for_which_the_queue_has_no_place_is_not_left_to_start_later(places: Installation) -> None:
    places.workspace.mkdir(parents=True, exist_ok=True)
    (places.workspace / "queue").write_text("a file in the place of the folder")
    path = places.runs / "one"
    with pytest.raises(FileExistsError):
        start_run(StartRequest(from_here("r: 4\n", places)), path, ["true"], Attempt(device_uuids=[]))
    assert not path.exists()
