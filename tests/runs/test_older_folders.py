"""Folders that older versions wrote open, list, compare and show as if this one had written them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lora_backend.cli import main
from lora_backend.runs.history.outcome import outcome_of
from lora_backend.runs.history.run_table import History, config_differences
from lora_backend.runs.record.locked_files import read_json
from lora_backend.runs.record.run_store import RunStore, open_run
from tests.pages.screens import charts, show

FIXTURES = Path(__file__).parent / "fixtures"
STATES = {
    "finished": ("finished", 9, None),
    "stopped": ("stopped", 9, None),
    "failed": ("failed", 1, "nan_loss"),
    "lost": ("lost", 5, "reboot"),
    "queued": ("queued", 0, None),
    "resumed": ("finished", 13, None),
}
"""Folder → state, step and cause, as the version that wrote it told them."""


@pytest.fixture
def runs(workspace: Path) -> Path:
    """The folders in a workspace of the test's own."""
    shutil.copytree(FIXTURES, workspace / "runs")
    return workspace / "runs"


@pytest.mark.parametrize("name", STATES)
def test_an_older_folder_opens_in_the_state_that_it_was_in(runs: Path, name: str) -> None:
    run = open_run(runs, name)
    state = run.state()
    assert (state.state, state.step, state.cause) == STATES[name]
    assert (run.read_record().kind, run.read_record().name) == ("train", name)


@pytest.mark.parametrize("name", STATES)
def test_what_an_older_version_wrote_is_read_and_written_back_without_loss(runs: Path, name: str) -> None:
    run = RunStore(runs / name)
    assert run.read_record().to_json() == read_json(run.run_json)
    for attempt in run.read_attempts():
        assert attempt.to_json() == read_json(run.attempts / f"{attempt.number}.json")
    for found, path in ((run.read_exit(), run.exit_json), (run.read_rank_report(), run.rank_report_json)):
        assert (found and json.loads(json.dumps(found.to_json()))) == read_json(path)
    written = read_json(run.status_json) or {}
    status = json.loads(json.dumps(run.read_status().to_json()))
    flat = {**status, **status["attempt"]}
    assert (flat.pop("format"), flat.pop("attempt")) == (2, status["attempt"])
    assert flat.items() >= {key: value for key, value in written.items() if key != "format"}.items()


def test_what_belongs_to_one_attempt_is_found_in_its_own_object(runs: Path) -> None:
    status = RunStore(runs / "failed").read_status()
    assert (status.step, status.attempt.stage) == (1, "training")
    assert status.attempt.trainer is not None
    assert status.attempt.failure is not None
    assert status.attempt.failure.cause == "nan_loss"
    assert "trainer" not in (status.model_extra or {})


def test_older_folders_are_listed_with_their_figures(runs: Path) -> None:
    rows = {row.name: row for row in History(runs).rows()}
    assert rows.keys() == STATES.keys()
    assert {name: (row.state.state, row.state.step, row.state.cause) for name, row in rows.items()} == STATES
    assert (rows["finished"].labels.pinned, list(rows["finished"].labels.tags)) == (True, ["baseline", "r 2"])
    assert all((row.figures["loss"] is None) == (name in ("queued", "failed")) for name, row in rows.items())


def test_older_runs_are_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configs = [RunStore(runs / name).config_as_changed() for name in ("stopped", "resumed")]
    assert config_differences(configs)["learning_rate"] == [0.02, 0.01], "the second was resumed with another"
    found = outcome_of(RunStore(runs / "finished"))
    assert (found.is_consistent, found.ranks, found.num_answers) == (True, "good", 4)
    assert (found.measured_bytes or 0) > 0
    assert main(["runs", "compare", "finished", "resumed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", STATES)
def test_an_older_run_is_shown(runs: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", name, "--json"]) == (STATES[name][0] in ("failed", "lost"))
    assert json.loads(capsys.readouterr().out)["state"] == STATES[name][0]
    at = show("runs", run=name)
    assert not at.exception
    assert bool(charts(at)) == (name != "queued")
