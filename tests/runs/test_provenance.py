"""What a run was made by, written down; and what it takes to make it again."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from lora_backend.commands.words import setting
from lora_backend.errors import RunError
from lora_backend.runs.history.reproduce import ThenNow, reproduction
from lora_backend.runs.record.documents import CodeVersion
from lora_backend.runs.record.provenance import code_of, provenance, version_of
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import add_start, make_run, record_of


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A package in a repository of its own, committed."""
    folder = tmp_path / "checkout" / "package"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("a = 1\n")
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "-qm", "first")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    (tmp_path / "d.jsonl").write_text("{}\n")
    text = "model_name: m  # 模型\ndataset: d.jsonl\nversion: '1.0'\nr: 4\n"
    config = {"model_name": "m", "dataset": str(tmp_path / "d.jsonl"), "version": "1.0", "r": 4}
    sha256 = hashlib.sha256(b"{}\n").hexdigest()
    return make_run(tmp_path / "runs", config=config, config_text=text, argv=["a"], data_sha256=sha256)


def test_the_commit_is_the_programs_and_a_change_in_its_folder_is_seen(program: Path) -> None:
    head = git(program, "rev-parse", "HEAD")
    assert code_of(program) == CodeVersion(commit=head, is_modified=False)
    (program.parent / "README.md").write_text("beside the program")
    assert code_of(program) == CodeVersion(commit=head, is_modified=False)
    (program / "new.py").write_text("b = 2\n")
    assert code_of(program) == CodeVersion(commit=head, is_modified=True)


def test_variables_of_a_hook_point_git_at_no_other_repository(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(program, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert code_of(program) == CodeVersion(commit=head, is_modified=False)


def test_a_package_installed_below_a_checkout_is_not_of_that_checkout(program: Path) -> None:
    (program.parent / ".gitignore").write_text("venv/\n")
    installed = program.parent / "venv" / "package"
    installed.mkdir(parents=True)
    (installed / "a.py").write_text("a = 1\n")
    assert code_of(installed) is None


def test_no_repository_no_git_and_a_git_that_hangs_are_no_reason_to_fail(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert code_of(tmp_path) is None
    assert code_of(tmp_path / "none") is None
    git(tmp_path, "init", "-q", "empty")
    assert code_of(tmp_path / "empty") is None
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    assert code_of(program) is None
    (tools / "git").write_text("#!/bin/sh\nexec /bin/sleep 20\n")
    (tools / "git").chmod(0o755)
    monkeypatch.setattr("lora_backend.runs.record.provenance.GIT_TIMEOUT_S", 0.2)
    begun = time.monotonic()
    assert code_of(program) is None
    assert time.monotonic() - begun < 10


def test_a_run_records_what_it_was_made_by(run: RunStore) -> None:
    found = record_of(run)
    assert found["python"] == platform.python_version()
    assert found["platform"] == platform.platform()
    assert found["versions"]["torch"] == version_of("torch")
    assert version_of("no-such-package") is None
    assert set(provenance()) == {"versions", "python", "platform", "code"}


def test_made_again_by_its_own_file_and_what_was_bound_when_it_started(run: RunStore, tmp_path: Path) -> None:
    found = reproduction(run)
    assert found.config_text.startswith("model_name: m  # 模型\n")
    assert found.command is not None
    words = shlex.split(found.command)
    assert words == [
        "python", "-m", "lora_backend", "train", str(run.config_yaml), "--set", f"dataset={tmp_path / 'd.jsonl'}"
    ]  # fmt: skip
    assert found.is_as_recorded == (not found.is_modified)
    assert (found.versions, found.data_sha256.differs, found.later_changes) == ({}, False, {})


@pytest.mark.parametrize("value", ["1.0", "a: b", "#x", "null", "", "plain", None, True, 1e-4, ["q_proj", "v_proj"], {"q_proj": 8}])  # fmt: skip
def test_options_of_the_command_are_read_back_as_the_values_that_ran(value: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path, config={"r": value}, config_text="r: something else\n", argv=["a"])
    command = reproduction(run).command
    assert command is not None
    assert setting(shlex.split(command)[-1]) == ("r", value)


def test_what_is_not_as_it_was_is_named(run: RunStore, program: Path, tmp_path: Path) -> None:
    about = record_of(run)
    about["versions"] = {"peft": "0.1", "gone-package": "2.0", "torch": version_of("torch")}
    about |= {"python": "3.9.1", "code": {"commit": "f" * 40, "is_modified": True}}
    run.run_json.write_text(json.dumps(about))
    (tmp_path / "d.jsonl").write_text('{"another": 1}\n')
    found = reproduction(run, program)
    assert found.versions == {
        "peft": ThenNow("0.1", version_of("peft")),
        "gone-package": ThenNow("2.0", None),
        "python": ThenNow("3.9.1", platform.python_version()),
    }
    assert found.data_sha256.differs
    assert found.commit == ThenNow("f" * 40, git(program, "rev-parse", "HEAD"))
    assert (found.was_modified, found.is_modified, found.is_as_recorded) == (True, False, False)


def test_a_run_of_an_older_version_and_data_that_is_gone_leave_open_what_nobody_knows(
    run: RunStore, tmp_path: Path
) -> None:
    about = {
        key: value for key, value in record_of(run).items() if key not in ("python", "platform", "code", "versions")
    }
    run.run_json.write_text(json.dumps(about))
    (tmp_path / "d.jsonl").unlink()
    run.config_yaml.unlink()
    found = reproduction(run)
    assert (found.versions, found.commit.then, found.was_modified) == ({}, None, None)
    assert (found.data_sha256.now, found.data_sha256.differs) == (None, None)
    assert (found.command, "r: 4" in found.config_text) == (None, True)


def test_settings_changed_while_it_was_resumed_are_named_and_given_from_the_start(run: RunStore) -> None:
    add_start(run, changes={"learning_rate": 5e-5})
    found = reproduction(run)
    assert found.later_changes == {"learning_rate": 5e-5}
    assert found.command is not None
    assert "learning_rate=5e-05" in found.command


def test_a_callers_own_batches_have_no_command(tmp_path: Path) -> None:
    run = make_run(tmp_path, config={"r": 4}, config_text="r: 4\n", argv=None)
    assert reproduction(run).command is None


@pytest.mark.parametrize("value", [None, 1, "x", [1], True])
@pytest.mark.parametrize("key", ["versions", "code"])
def test_what_another_hand_has_written_leaves_it_open(key: str, value: Any, run: RunStore) -> None:
    run.run_json.write_text(json.dumps(record_of(run) | {key: value}))
    add_start(run, changes=value)
    assert reproduction(run).config_text


def test_a_run_without_its_config_is_a_sentence(run: RunStore) -> None:
    run.run_json.write_text(json.dumps(record_of(run) | {"config": None}))
    with pytest.raises(RunError, match="has no config"):
        reproduction(run)
