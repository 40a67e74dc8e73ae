"""A start whose plan is tight: a terminal is asked once, `--yes` answers, and where nobody can be asked it never waits."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.commands import asking
from lora_backend.commands.plan import trace_here
from lora_backend.config.config_writing import dump_yaml
from lora_backend.launching import launch
from lora_backend.planning.targets import Target
from lora_backend.preflight import placement
from lora_backend.preflight.placement import plan_start
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.runs.record.transitions import request_stop
from tests.command_line import strict
from tests.hardware.nvml import stub_environment
from tests.pages.plan_page import SMALL, TIGHT, profile_of
from tests.preflight.machines import on
from tests.resolving import from_here
from tests.run_files import attempt_of, end_run
from tests.runs.stand_in import HEAD, TRAIN
from tests.stub_runs import MakeRun, stub_runs
from tests.tiny import stub_model
from tests.training.helpers import made
from tests.training.helpers import until as ends
from tests.waiting import until

Make = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[1]
ON_A_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"


@pytest.fixture
def values(config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A config of the tiny model, on a machine that it fills to 98 %; it stands in `c.yaml` of the current folder."""
    monkeypatch.chdir(tmp_path)
    values = config(max_steps=1)
    Path("c.yaml").write_text(dump_yaml(values))
    plan = plan_start(from_here(values), trace_here).plan
    assert plan is not None
    host = Target("cpu", "CPU", round(plan.devices[0].breakdown.total / 0.98))
    monkeypatch.setattr(placement, "machine_targets", lambda *_: ((host,), None, None))
    return values


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Somebody sits at the terminal who will type this."""
    monkeypatch.setattr(asking, "can_ask", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_training_in_the_foreground_without_a_terminal_says_the_option_and_makes_no_run(
    values: dict[str, Any], workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "c.yaml", "--json"]) == 1
    out, err = capfd.readouterr()
    assert "Tight: " in err
    assert "Start it anyway with `--yes`." in err
    document = strict(out)
    assert (document["startable"], document["blockers"], [one["code"] for one in document["start_warnings"]]) == (
        True,
        [],
        ["tight"],
    )
    assert document["error"].startswith("Tight: ")
    assert list_runs(workspace / "runs") == []


@pytest.mark.parametrize(("words", "typed"), [(["--yes"], ""), (["--anyway"], ""), ([], "y\n")])
def test_an_accepted_plan_trains_and_says_so_in_attempt_and_log(
    words: list[str],
    typed: str,
    values: dict[str, Any],
    workspace: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if typed:
        answer(monkeypatch, typed)
    assert main(["train", "c.yaml", *words, "--json"]) == 0
    out, err = capfd.readouterr()
    assert err.count("Start anyway? [y/N]") == (1 if typed else 0)
    assert strict(out)["state"] == "finished", "stdout is the answer alone"
    (run,) = list_runs(workspace / "runs")
    assert attempt_of(run)["accepted"] == attempt_of(run)["plan"]["verdict"] == "tight"
    assert "WARNING lora_backend.training.start_facts: plan: Tight: " in run.train_log.read_text()


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_whoever_does_not_say_yes_starts_nothing(
    typed: str,
    values: dict[str, Any],
    workspace: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer(monkeypatch, typed)
    assert main(["train", "c.yaml"]) == 1
    err = capfd.readouterr().err
    assert err.count("Tight: ") == 1
    assert "Not started." in err
    assert "--yes" not in err
    assert list_runs(workspace / "runs") == []


def test_the_trainer_that_a_supervisor_starts_never_asks(
    values: dict[str, Any], workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = made(workspace, values)
    assert main(["train", str(run.path / "config.yaml"), "--run-dir", str(run.path)]) == 0
    assert "Start anyway?" not in capfd.readouterr().err
    assert "plan: Tight: " in run.train_log.read_text()


def test_check_calls_it_startable_with_a_warning(values: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "c.yaml", "--json"]) == 0
    document = strict(capfd.readouterr().out)
    assert (document["startable"], [one["code"] for one in document["start_warnings"]]) == (True, ["tight"])
    assert main(["check", "c.yaml", "--lang", "en"]) == 0
    assert "It can start on this machine now.\n⚠ Tight: " in capfd.readouterr().out


# --------------------------------------------------------------------------------------------- detached runs


@pytest.fixture
def make_run(workspace: Path) -> Iterator[MakeRun]:
    yield from stub_runs(workspace)


@pytest.fixture
def ended(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A run that was ended, whose plan is tight now."""
    on(monkeypatch, TIGHT)
    monkeypatch.setattr("lora_backend.commands.run_acts.trace_here", lambda _, config: profile_of(config))
    run = make_run("a1", config={"model_name": str(stub_model(tmp_path / "m", SMALL))})
    end_run(run, "failed", cause="killed")
    return run


def test_a_resume_without_a_terminal_says_the_option_and_leaves_the_run_as_it_is(
    ended: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "resume", "a1", "--lang", "en"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("Tight: ")
    assert "`gradient_checkpointing" in said or "gradient_checkpointing: true saves" in said
    assert said.rstrip().endswith("Start it anyway with `--yes`.")
    assert ended.state().state == "failed"
    assert main(["runs", "resume", "a1", "--yes", "--json"]) == 0
    assert attempt_of(ended)["accepted"] == "tight"
    until(lambda: recover(ended).state == "running", "it runs again")


def test_a_table_is_asked_about_once_for_all_of_its_rows(
    make_run: MakeRun,
    tmp_path: Path,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    on(monkeypatch, TIGHT)
    monkeypatch.setattr("lora_backend.commands.run_queue.trace_here", lambda _, config: profile_of(config))
    monkeypatch.setattr(launch, "trainer_command", lambda path: [sys.executable, "-c", HEAD + TRAIN, str(path)])
    monkeypatch.chdir(tmp_path)
    model = stub_model(tmp_path / "m", SMALL)
    Path("c.yaml").write_text(dump_yaml({"model_name": str(model), "dataset": str(workspace.parent / "stub.jsonl")}))
    Path("t.csv").write_text("name,batch_size\none,4\ntwo,1\nthree,4\n")
    assert main(["runs", "queue", "c.yaml", "--table", "t.csv", "--json"]) == 1
    document = strict(capsys.readouterr().out)
    assert document["runs"] == []
    assert document["error"].startswith("2 of 3 rows are tight. Line 2: Tight: ")
    assert list_runs(workspace / "runs") == []
    assert main(["runs", "queue", "c.yaml", "--table", "t.csv", "--dry-run", "--lang", "en"]) == 0
    assert capsys.readouterr().out.count("    ⚠ Tight: ") == 2, "known by now"
    answer(monkeypatch, "y\n")
    assert main(["runs", "queue", "c.yaml", "--table", "t.csv", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.count("Start anyway? [y/N]") == 1
    runs = {row["name"]: attempt_of(RunStore(Path(row["path"]))).get("accepted") for row in strict(out)["runs"]}
    assert runs == {"one": "tight", "two": None, "three": "tight"}


def test_a_real_terminal_is_asked_and_one_that_is_not_ours_never_waits(config: Make, tmp_path: Path) -> None:
    """With the real driver interface: a GPU of 0.75 GiB, of which context and tensors take most."""
    environment = stub_environment(tmp_path, "gpu name=NVIDIA RTX A, uuid=GPU-a, gib=0.75, cc=8.6")
    (tmp_path / "c.yaml").write_text(dump_yaml(config(precision="bf16")))
    queue = ["-m", "lora_backend", "runs", "queue", str(tmp_path / "c.yaml"), "--json", "--lang", "en"]

    def call(*argv: str, typed: str = "") -> tuple[int, dict[str, Any], str]:
        keyboard, screen = pty.openpty()
        os.write(keyboard, typed.encode())
        done = subprocess.run(
            [sys.executable, *argv],
            cwd=ROOT,
            env=environment,
            stdin=screen,
            stderr=screen,
            stdout=subprocess.PIPE,
            start_new_session=True,
            timeout=300,
            check=False,
        )
        os.close(screen)
        seen = ""
        try:
            while block := os.read(keyboard, 1 << 16):
                seen += block.decode()
        except OSError:  # the terminal is closed
            pass
        os.close(keyboard)
        return done.returncode, json.loads(done.stdout), seen

    code, document, seen = call(*queue)
    assert (code, document["runs"], "Start anyway?" in seen) == (1, [], False)
    assert document["error"].startswith("Tight: ")
    code, document, seen = call("-c", ON_A_TERMINAL, *queue, typed="n\n")
    assert (code, document["error"]) == (1, "Not started.")
    assert "Start anyway? [y/N]" in seen
    code, document, _ = call("-c", ON_A_TERMINAL, *queue, typed="y\n")
    assert code == 0
    run = RunStore(Path(document["runs"][0]["path"]))
    try:
        assert attempt_of(run)["accepted"] == "tight"
    finally:
        request_stop(run, deadline_s=0)
        ends(lambda: recover(run).has_ended)
