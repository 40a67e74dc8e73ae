"""A named pipe, a socket or a device in the place of any file that is read: never waited for, never read without end."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.config.config_text import read_config
from lora_backend.config.drafts import new_draft
from lora_backend.config.foreign.import_file import import_file
from lora_backend.config.scripts import read_script
from lora_backend.data.row_file import preview_rows, sha256_of_rows
from lora_backend.data.summary import summary_of
from lora_backend.errors import FlightdeckError
from lora_backend.models.describe import describe_model, read_json_object
from lora_backend.models.headers import read_folder_headers, read_header
from lora_backend.models.identity import base_identity
from lora_backend.runs.checkpoints.manifest import MANIFEST, verified
from lora_backend.runs.foreign.foreign_folder import open_folder
from lora_backend.runs.foreign.trainer_state import read_object
from lora_backend.runs.history.run_table import History
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.logs import read_log
from lora_backend.runs.record.run_labels import read_labels
from lora_backend.verification.passport import check_passport, file_sha256
from tests.questions import read_questions
from tests.resolving import from_here
from tests.run_files import add_start, make_run
from tests.verification.reports import folder_report

LONGEST_S = 60.0
"""Of a busy machine; what waits for a pipe waits for ever."""
Place = Callable[[Path], Path]


@pytest.fixture(params=["named pipe", "socket", "device"])
def place(request: pytest.FixtureRequest) -> Place:
    """Puts such a file where it is told to."""

    def put(path: Path) -> Path:
        path.unlink(missing_ok=True)
        if request.param == "named pipe":
            os.mkfifo(path)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        else:
            os.mknod(path, stat.S_IFSOCK | 0o600)
        return path

    put.__doc__ = request.param
    return put


def answer(ask: Callable[[], object]) -> object:
    """What comes of it, an error too; none of it may take for ever."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(ask())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LONGEST_S)
    assert not thread.is_alive(), "it waits for what never comes"
    return found[0]


READERS: dict[str, Callable[[Path], object]] = {
    "config": read_config, "import": import_file, "script": read_script, "data set": lambda path: preview_rows(path, 9), "questions": read_questions,
    "rows": summary_of, "hash of the rows": sha256_of_rows, "header": read_header, "JSON of a model": read_json_object,
    "JSON of a training": read_object,
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_whoever_names_it_is_told_what_it_is(reader: str, place: Place, tmp_path: Path) -> None:
    path = place(tmp_path / "file.json")
    error = answer(lambda: READERS[reader](path))
    assert isinstance(error, FlightdeckError)
    assert str(error) == f"{path} is a {place.__doc__}, not a file. Name a regular file."


@pytest.mark.parametrize("key", ["dataset", "questions"])
def test_a_config_that_names_it_has_a_finding(key: str, place: Place, tmp_path: Path) -> None:
    path = place(tmp_path / "rows.jsonl")
    result: Any = answer(lambda: from_here({"model_name": "no/where", key: str(path)}).result)
    (finding,) = [finding for finding in result.findings if finding.key == key]
    assert f"is a {place.__doc__}, not a file" in finding.message.text("en")


def test_in_a_models_or_an_adapters_folder_it_is_no_file(place: Place, tmp_path: Path) -> None:
    names = (
        "config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer_config.json", "chat_template.jinja",
        "adapter_config.json", "adapter_model.safetensors", "flightdeck.json",
    )  # fmt: skip
    for name in names:
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
        place(folder / name)
        for ask in (describe_model, base_identity, check_passport, lambda path: folder_report(path, None)):
            found = answer(lambda ask=ask, folder=folder: ask(folder))  # type: ignore[misc]
            assert not isinstance(found, Exception) or isinstance(found, FlightdeckError | OSError), (name, ask)
        assert not isinstance(answer(lambda folder=folder, name=name: file_sha256(folder / name)), str)  # type: ignore[misc]
        assert answer(lambda folder=folder: read_folder_headers(folder, "model")) == {}  # type: ignore[misc]


def test_in_a_runs_folder_it_is_as_if_it_were_not_there(place: Place, tmp_path: Path) -> None:
    names = (
        "run.json", "status.json", "exit.json", "metrics.jsonl", "rank_report.json", "labels.json", "train.log", "config.yaml",
        "answers.jsonl", "attempts/1.json", "attempts/2.json",
    )  # fmt: skip
    for number, name in enumerate(names):
        run = make_run(tmp_path / f"runs{number}", config={"r": 4}, config_text="r: 4\n", argv=None)
        add_start(run)
        place(run.path / name)
        for ask in (
            run.state,
            run.read_status,
            run.read_exit,
            run.read_attempt,
            run.read_attempts,
            run.read_answers,
            run.read_rank_report,
            run.config_text,
            History(run.path.parent).rows,
            lambda run=run: read_columns(run.metrics_jsonl),
            lambda run=run: read_labels(run.path),
            lambda run=run: read_log(run.train_log),
            lambda run=run: open_folder(run.path),
            run.read_record,
            run.read_stop_request,
        ):
            found = answer(ask)  # type: ignore[arg-type]
            assert not isinstance(found, Exception) or isinstance(found, FlightdeckError), (name, ask, found)


def test_as_a_checkpoints_manifest_or_file_it_is_damage(place: Place, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-2"
    checkpoint.mkdir()
    place(checkpoint / MANIFEST)
    is_link = place.__doc__ == "device"
    assert answer(lambda: verified(checkpoint)) == [
        f"{MANIFEST}: {'is a symbolic link' if is_link else 'cannot be read'}"
    ]
    (checkpoint / MANIFEST).unlink()
    place(checkpoint / "optimizer.pt")
    size_bytes = (checkpoint / "optimizer.pt").stat().st_size
    files = {"optimizer.pt": {"size": size_bytes, "sha256": "0"}}
    (checkpoint / MANIFEST).write_text(json.dumps({"format": 1, "step": 2, "files": files}))
    assert answer(lambda: verified(checkpoint)) != []


def test_in_a_drafts_folder_it_is_one_sentence(place: Place, tmp_path: Path) -> None:
    draft = new_draft(tmp_path / "drafts", "r: 1\n")
    for name in ("config.yaml", "table.txt", "history/1.yaml", "history/position"):
        place(draft.path / name)
    assert isinstance(answer(draft.text), FlightdeckError)
    for ask in (draft.table, draft.history.position, lambda: draft.history.text(1)):
        found = answer(ask)
        assert not isinstance(found, Exception) or isinstance(found, FlightdeckError | OSError)


@pytest.mark.parametrize("words", [["check", "{}"], ["check", "{good}", "--against", "{}"], ["import", "{}"], ["plan", "--model", "{}"], ["train", "{}"]])  # fmt: skip
def test_the_command_line_answers_at_once(
    words: list[str], place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, path = tmp_path / "good.yaml", place(tmp_path / "odd.yaml")
    good.write_text("model_name: no/where\n")
    code = answer(lambda: main([word.format(path, good=good) for word in words]))
    said = capsys.readouterr()
    assert code == 2, code
    assert str(path) in said.err + said.out
    assert "Traceback" not in said.err
