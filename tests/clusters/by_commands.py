"""A run that is begun, stopped and resumed on a cluster by the commands of a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.config.config_writing import dump_yaml
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.run_files import log_tail
from tests.waiting import until


def run_cli(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """A command's exit code, and what it prints."""
    capsys.readouterr()
    code = main([*words, "--lang", "en"])
    said = capsys.readouterr()
    return code, said.out + ("" if "--json" in words else said.err)


def is_at(run: RunStore, step: int) -> bool:
    """Whether that step is done; an end before it fails, with the log."""
    state = recover(run)
    assert not run.exit_json.exists(), (run.exit_json.read_text(), log_tail(run, 4000))
    return state.step >= step


def start(config: dict[str, Any], words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> RunStore:
    """Start a run by a command."""
    path = folder / "config.yaml"
    path.write_text(dump_yaml(config))
    code, said = run_cli(["runs", "start", str(path), *words, "--json"], capsys)
    assert code == 0, said
    (run,) = list_runs(folder / "ws" / "runs")
    assert json.loads(said)["cluster"]["asked"]["kind"] == words[1]
    return run


def whole_run(config: dict[str, Any], words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> RunStore:
    """Start by a command, stop it, resume it, see it finish."""
    run = start(config, words, folder, capsys)
    until(lambda: is_at(run, 3), "it trains", 120)
    code, said = run_cli(["runs", "stop", run.id, "--wait", "--json"], capsys)
    assert (code, run.state().state) == (0, "stopped"), said
    stopped_at = run.state().step
    assert (run.checkpoints / f"checkpoint-{stopped_at}").is_dir()
    code, said = run_cli(["runs", "resume", run.id, "--set", f"max_steps={stopped_at + 2}", "--json"], capsys)
    assert code == 0, said
    until(lambda: recover(run).has_ended, "it ends", 120)
    assert (run.state().state, run.state().step) == ("finished", stopped_at + 2), log_tail(run, 4000)
    attempts = run.read_attempts()
    assert [attempt.cluster and attempt.cluster.kind for attempt in attempts] == [words[1]] * 2
    assert all(attempt.is_planned and attempt.plan for attempt in attempts), "each was planned on its machine"
    return run
