"""`python -m lora_backend train`: exit codes, one document on stdout, and where the run goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import dump_yaml
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.run_files import record_of, set_status, status_of
from tests.tiny import chats, write_rows
from tests.training.helpers import made, run

Make = Callable[..., dict[str, Any]]


def written(folder: Path, values: dict[str, Any], head: str = "") -> str:
    path = folder / "config.yaml"
    path.write_text(head + dump_yaml(values))
    return str(path)


def answered(capfd: pytest.CaptureFixture[str], *command: str) -> tuple[int, Any]:
    """Exit code, and the one document that is all of stdout."""
    capfd.readouterr()
    code = main(["train", *command, "--json"])
    return code, json.loads(capfd.readouterr().out)


def test_a_run_that_ends_well_is_exit_0_and_one_document(
    config: Make, workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, config(), "# mine\n")
    code, document = answered(capfd, path)
    (folder,) = list_runs(workspace / "runs")
    assert code == 0
    assert (document["run"], document["state"]) == (folder.id, "finished")
    assert (Path(document["adapter"]) / "adapter_model.safetensors").is_file()
    assert folder.config_yaml.read_text() == Path(path).read_text(), "as the user wrote it"
    assert record_of(folder)["data_sha256"]


def test_set_changes_single_keys_and_run_dir_says_where(
    config: Make, workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = ["--set", "num_epochs=1", "--set", "target_layers=[1]", "--set", "learning_rate=1e-3"]
    code, document = answered(capfd, written(tmp_path, config()), *changes, "--run-dir", "mine")
    folder = RunStore(tmp_path / "mine")
    assert (code, document["path"]) == (0, str(folder.path))
    ran = record_of(folder)["config"]
    assert (ran["num_epochs"], ran["target_layers"], ran["learning_rate"]) == (1, [1], 1e-3)
    assert parse_config(folder.config_yaml.read_text()).values == ran
    assert list_runs(workspace / "runs") == []


def test_a_relative_data_set_counts_from_the_current_folder(
    config: Make, tmp_path: Path, workspace: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_rows(tmp_path / "elsewhere/rows.jsonl", chats(1))
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, document = answered(capfd, written(tmp_path, config(dataset="rows.jsonl", max_steps=1)))
    assert code == 0
    assert record_of(RunStore(Path(document["path"])))["config"]["dataset"] == str(tmp_path / "elsewhere/rows.jsonl")


@pytest.mark.parametrize("changes", [{"r": "four"}, {"unknown": 1}, {"target_layers": [9]}], ids=str)
def test_a_config_with_errors_is_exit_1_with_the_documents_of_check_and_makes_no_run(
    changes: dict[str, Any], config: Make, workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = answered(capfd, written(tmp_path, config(**changes)))
    assert code == 1
    assert document["is_valid"] is False
    assert document["findings"][0]["severity"] == "error"
    assert list_runs(workspace / "runs") == []


def test_wrong_questions_are_exit_2_and_an_error(
    config: Make, workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, config(max_steps=1))
    for command in (["none.yaml"], [path, "--set", "r"]):
        code, document = answered(capfd, *command)
        assert (code, list(document)) == (2, ["error"])
    done = run(workspace, config(max_steps=1))
    for more in ([], ["--set", "r=8"]):
        code, document = answered(capfd, path, "--run-dir", str(done.path), *more)
        assert (code, list(document)) == (2, ["error"])


@pytest.mark.parametrize("key", ["dataset", "questions", "model_name"])
def test_a_file_that_is_not_there_is_a_sentence(
    key: str, config: Make, workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, config(**{key: "/no/such/file"}))
    assert main(["train", path, "--json"]) in (1, 2)
    out, err = capfd.readouterr()
    assert isinstance(json.loads(out), dict)
    assert "/no/such/file" in err + out


@pytest.mark.parametrize(
    "changes",
    [{"max_length": 3}, {"optim": "nonsense"}, {"rank_pattern": {"q_proj[": 2}}],
    ids=str,
)
def test_a_run_that_fails_is_exit_1_and_one_document_too(
    changes: dict[str, Any], config: Make, workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = answered(capfd, written(tmp_path, config(**changes)))
    assert code == 1
    assert document.get("state") == "failed" or document.get("is_valid") is False or document["startable"] is False


@pytest.fixture
def other_process() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()


def test_a_run_that_another_process_trains_is_not_trained_twice(
    config: Make, workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], other_process: int
) -> None:
    folder = made(workspace, config(max_steps=1))
    trainer = identify(other_process)
    assert trainer
    set_status(folder, state="running", trainer=trainer.to_json())
    code, document = answered(capfd, written(tmp_path, config(max_steps=1)), "--run-dir", str(folder.path))
    assert (code, list(document)) == (2, ["error"])
    assert status_of(folder)["trainer"]["pid"] == other_process != os.getpid()
