"""A run of two processes as it is really started: by a launch under a supervisor, and at a terminal, each a new Python."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.config.config_writing import dump_yaml
from lora_backend.installation import child_environment, this_installation
from lora_backend.preflight.plan_vs_measured import compare
from lora_backend.runs.checkpoints.manifest import newest_whole
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.command_line import strict
from tests.peer_runs import START_S, end_all, leases_of, left_of, peers_of, wait_for_nothing_left
from tests.run_files import log_tail
from tests.training.helpers import CLI, until

pytestmark = pytest.mark.usefixtures("ended_after")
Make = Callable[..., dict[str, Any]]


@pytest.fixture
def config_of_two(config: Make, tmp_path: Path) -> Callable[..., Path]:
    """The file of a config that two processes train, and no run yet."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "two.yaml"
        path.write_text(dump_yaml(config(strategy="ddp", num_processes=2, target_batch_size=8, **changes)))
        return path

    return write


@pytest.fixture
def ended_after(workspace: Path) -> Iterator[None]:
    yield
    for run in list_runs(workspace / "runs"):
        end_all(run)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    main(["runs", "show", *words, "--json", "--lang", "en"])
    found: dict[str, Any] = strict(capsys.readouterr().out)
    return found


def test_a_launched_run_is_trained_by_both_and_each_log_is_reached(
    config_of_two: Callable[..., Path], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "queue", str(config_of_two(max_steps=4)), "--yes", "--lang", "en"]) == 0
    (run,) = list_runs(workspace / "runs")
    assert (run.read_attempt().strategy, run.read_attempt().num_peers) == ("ddp", 2)
    until(lambda: len(peers_of(run)) == 2 or run.exit_json.exists(), limit_s=START_S)
    assert leases_of(run) == [run.id]
    assert len(left_of(run)) == 3, "an agent and two processes"
    wait_for_nothing_left(run)
    assert run.state().state == "finished", log_tail(run, 3000)
    assert (run.adapter / "adapter_model.safetensors").is_file()
    rows = shown(capsys, run.id)["peers"]
    assert [(row["rank"], row["device"], row["state"]) for row in rows] == [(0, "cpu", "done"), (1, "cpu", "done")]
    for row in rows:
        told = shown(capsys, run.id, "--log", str(row["rank"]))
        assert told["path"] == row["log"] == str(run.peer_log(row["rank"]))
        assert "stage training took" in told["text"]
    assert main(["runs", "show", run.id, "--log", "2", "--lang", "en"]) != 0
    assert "no log of process 2. It has logs of: 0, 1." in capsys.readouterr().err
    assert main(["runs", "show", run.id, "--lang", "en"]) == 0
    assert str(run.peer_log(1)) in capsys.readouterr().out
    assert run.train_log.read_text().count("stage loading took") == 1, "the others have logs of their own"
    held = compare(run.read_attempt(), run.read_record().config, this_installation())
    assert [(one.device, one.rank) for one in held] == [("cpu", 0), ("cpu", 1)]
    for one in held:
        assert one.difference == pytest.approx(0, abs=0.03), "against the plan for the rows that it had itself"


def test_ctrl_c_at_a_terminal_stops_both_with_a_checkpoint(config_of_two: Callable[..., Path], workspace: Path) -> None:
    run, (master, slave) = RunStore(workspace / "runs" / "mine"), pty.openpty()
    agent = subprocess.Popen(
        [*CLI, "train", str(config_of_two(num_epochs=100_000)), "--run-dir", str(run.path), "--yes", "--lang", "en"],
        env=child_environment(),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    said = b""
    try:
        os.set_blocking(master, False)

        def reached() -> bool:
            nonlocal said
            said += _read(master)
            return run.state().step > 3 or agent.poll() is not None

        until(reached, limit_s=START_S)
        assert leases_of(run) == [run.id]
        os.write(master, b"\x03")  # the kernel sends SIGINT to whoever is in the terminal's foreground
        until(lambda: reached() and agent.poll() is not None)
        assert agent.returncode == 130, said.decode()
    finally:
        agent.kill()
        agent.wait()
        os.close(master)
    wait_for_nothing_left(run)
    assert (run.state().state, run.state().cause) == ("stopped", "signal")
    newest, damaged = newest_whole(run)
    assert newest is not None
    assert (newest.name, damaged) == (f"checkpoint-{run.state().step}", [])
    assert b"Stopping: saving a checkpoint after this step" in said
    assert b"Traceback" not in said


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # nothing yet, or whoever wrote is gone
        return b""
