"""What a copied run says of commands, variables, places and numbers starts nothing and writes nowhere else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lora_backend.atomic import write_json
from lora_backend.installation import this_installation
from lora_backend.runs.processes.supervisor import supervise
from lora_backend.runs.processes.trainer_command import command_of, demo_command, environment_of, trainer_command
from lora_backend.runs.record import seal
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.seal import is_sealed, seal_of
from tests.run_files import add_start, attempt_of, log_tail, make_run, set_attempt, set_status


@pytest.fixture(autouse=True)
def _key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "cache"))


def made(tmp_path: Path, command: list[str], name: str = "one", /, **attempt: Any) -> RunStore:
    path = tmp_path / "ws/runs" / name
    run = make_run(path.parent, config={"r": 4}, config_text="r: 4\n", argv=command, path=path)
    add_start(run, **attempt)
    return run


def say(run: RunStore, **changes: Any) -> None:
    """What a stranger may write into `run.json`."""
    write_json(run.run_json, json.loads(run.run_json.read_text()) | changes)


def test_the_launchers_own_command_is_started_as_it_is(tmp_path: Path) -> None:
    run = made(tmp_path, ["python3", "-m", "lora_backend", "train", "x"])
    assert command_of(run, this_installation()) == ["python3", "-m", "lora_backend", "train", "x"]


def test_a_resume_gives_a_command_again_only_where_that_trains_in_the_same_folder(tmp_path: Path) -> None:
    path = tmp_path / "ws/runs/one"
    same = ["python3", "-m", "lora_backend", "train", "c", "--run-dir", str(path)]
    run = made(tmp_path, same, argv=["anything"])
    assert command_of(run, this_installation()) == same
    for number, argv in enumerate(
        (["train", "c"], [*same, "--set", "r=8"], ["x", "--run-dir", "one"], ["x", "--run-dir"])
    ):
        run = made(tmp_path, argv, f"run{number}", argv=["anything"])
        assert command_of(run, this_installation()) == trainer_command(run.path)


@pytest.mark.parametrize("argv", [["touch", "{}"], ["/bin/sh", "-c", "rm -rf {}"], "rm", 7, None, {"a": 1}, ["a\0b"], [[]], []])  # fmt: skip
def test_a_command_that_this_installation_did_not_write_is_made_anew(argv: Any, tmp_path: Path) -> None:
    run = made(tmp_path, ["true"], argv=["rm", "-rf", str(tmp_path)])
    own = json.loads(run.run_json.read_text())["argv_seal"]
    for stamp in (own, "", None, 7, "é", [own], "\ud800"):
        say(run, argv=argv, argv_seal=stamp)
        assert command_of(run, this_installation()) == trainer_command(run.path)


def test_a_seal_holds_for_one_folder_only(tmp_path: Path) -> None:
    run = made(tmp_path, ["true"])
    shutil.copytree(run.path, run.path.with_name("two"))
    copy = RunStore(run.path.with_name("two"))
    assert (command_of(run, this_installation()), command_of(copy, this_installation())) == (
        ["true"],
        trainer_command(copy.path),
    )


def test_a_demo_that_was_copied_is_trained_as_a_demo(tmp_path: Path) -> None:
    run = made(tmp_path, ["/other/python", "-m", "lora_backend", "demo", "--train", "--run-dir", "/other/one"])
    say(run, argv_seal=None)
    assert command_of(run, this_installation()) == demo_command(run.path)


def test_a_queued_run_that_was_copied_here_starts_no_program_of_its_own(tmp_path: Path) -> None:
    loot = tmp_path / "loot"
    run = made(
        tmp_path, ["true"], argv=["touch", str(loot)], environment={"PYTHONSTARTUP": str(loot), "LD_PRELOAD": str(loot)}
    )
    say(run, argv=["touch", str(loot)], config={"model_name": "nowhere"})
    supervise(run, this_installation())
    assert not loot.exists()
    assert run.state().state == "failed"
    assert log_tail(run), "it was the trainer that said why"


def test_only_the_variables_of_gpus_are_taken_from_a_run(tmp_path: Path) -> None:
    run = made(tmp_path, ["true"])
    for written, taken in (
        (
            {"CUDA_VISIBLE_DEVICES": "GPU-1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PATH": "/x"},
            {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-1"},
        ),
        ({"CUDA_VISIBLE_DEVICES": "a\0b"}, {}),
        ({"CUDA_VISIBLE_DEVICES": 3}, {}),
        (["a"], {}),
        (None, {}),
    ):
        set_attempt(run, environment=written)
        assert environment_of(run) == taken


def test_the_key_is_the_owners_alone_and_the_same_for_all_that_make_it_at_once(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from lora_backend.runs.record.seal import seal_of; print(seal_of(Path(sys.argv[1]), ['a'], Path(sys.argv[2])))"
    made_by = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(this_installation().seal_key)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    seals = {process.communicate()[0].strip() for process in made_by}
    assert seals - {"None"} == {seal_of(tmp_path, ["a"], this_installation().seal_key)}
    assert this_installation().seal_key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["half", "link", "folder"])
def test_without_a_usable_key_nothing_is_sealed(kind: str, tmp_path: Path) -> None:
    path = this_installation().seal_key
    path.parent.mkdir()
    if kind == "half":
        path.write_bytes(b"half")
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert seal_of(tmp_path, [], path) is None
    assert not is_sealed(tmp_path, [], None, path)
    assert command_of(run := made(tmp_path, ["true"]), this_installation()) == trainer_command(run.path)


def test_a_run_stands_in_the_queue_of_the_workspace_that_it_lies_in(tmp_path: Path) -> None:
    (tmp_path / "other/queue").mkdir(parents=True)
    run = made(tmp_path, ["true"])
    set_status(run, queue={"number": 1, "workspace": str(tmp_path / "other")})
    assert run.workspace == tmp_path / "ws"


@pytest.mark.parametrize("number", ["../../../../home/x", "/home/x", 7, None, [1]])
def test_an_attempts_number_is_that_of_its_file(number: Any, tmp_path: Path) -> None:
    run = made(tmp_path, ["true"])
    write_json(run.attempts / "1.json", {"number": number, "plan": {}})
    (run.attempts / "².json").write_text("{}")
    assert attempt_of(run)["number"] == 1
    assert os.listdir(run.attempts)  # noqa: PTH208
    assert seal.KEY_BYTES == 32
