"""A run's folder that somebody planted: no link in it is followed, neither to read nor to write."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import FlightdeckError, RunError
from lora_backend.installation import this_installation
from lora_backend.runs.checkpoints.manifest import checkpoints_of, newest_whole, sweep, verified
from lora_backend.runs.foreign.foreign_folder import open_folder
from lora_backend.runs.history.outcome import outcome_of
from lora_backend.runs.history.reproduce import reproduction
from lora_backend.runs.history.run_table import History, first_and_last_loss, read_row
from lora_backend.runs.processes.recovery import recover, recover_all
from lora_backend.runs.processes.supervisor import start_supervisor, supervise
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.failures import last_log_lines
from lora_backend.runs.record.logs import read_log, search_log
from lora_backend.runs.record.run_labels import read_labels, write_labels
from lora_backend.runs.record.run_store import RunStore, list_runs, open_run
from lora_backend.runs.record.transitions import begin_training, replan, request_save, request_stop
from lora_backend.runs.record.unlinked import links_of, own_adapter
from lora_backend.verification.rank_documents import empty_report
from tests.planted import FILES, FOLDERS, NUMBER, SECRET, WRITTEN, holds_secret, planted_run, tree
from tests.resolving import resume_from_here
from tests.run_files import add_point, add_start, end_run, make_run, put_answers, set_attempt, set_status, start_again

LINKS = [*FILES, *FOLDERS]
"""Parts of a run; that the run's own folder is a link is found at the door, by whoever opens it."""


@pytest.fixture
def outside(tmp_path: Path, workspace: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


READERS: dict[str, Callable[[RunStore], Any]] = {
    "run": RunStore.read_record, "state": RunStore.state, "status": RunStore.read_status, "attempt": RunStore.read_attempt, "attempts": RunStore.read_attempts,
    "answers": RunStore.read_answers, "ranks": RunStore.read_rank_report, "config": RunStore.config_text, "stop": RunStore.read_stop_request,
    "end": RunStore.read_exit, "changed": RunStore.config_as_changed, "labels": lambda run: read_labels(run.path), "row": read_row,
    "columns": lambda run: read_columns(run.metrics_jsonl), "losses": first_and_last_loss, "part": lambda run: read_log(run.train_log),
    "search": lambda run: search_log(run.train_log), "tail": lambda run: last_log_lines(run.train_log), "outcome": outcome_of,
    "checkpoints": checkpoints_of, "newest": newest_whole, "again": reproduction, "found": lambda run: open_folder(run.path),
    "history": lambda run: History(run.path.parent).rows(), "list": lambda run: [r.id for r in list_runs(run.path.parent)],
    "recovered": recover, "whole": lambda run: [verified(path) for path in checkpoints_of(run)],
}  # fmt: skip


@pytest.mark.parametrize("link", LINKS)
def test_no_reader_follows_a_link(link: str, workspace: Path, outside: Path) -> None:
    run = planted_run(workspace / "runs", outside, (link,))
    before = tree(outside)
    for name, read in READERS.items():
        try:
            found = str(read(run))
        except FlightdeckError as error:
            found = str(error)
        assert SECRET not in found, name
        assert str(NUMBER) not in found, name
    said = links_of(run.path)
    assert said is not None
    assert link in said.text("en")
    assert tree(outside) == before


@pytest.mark.parametrize("link", ["run.json", ""])
def test_a_run_that_is_a_link_is_none_and_the_sentence_names_it(link: str, workspace: Path, outside: Path) -> None:
    run = planted_run(workspace / "runs", outside, (link,))
    assert list_runs(workspace / "runs") == []
    assert recover_all(workspace / "runs") == []
    assert History(workspace / "runs").rows() == []
    with pytest.raises(RunError, match=f"contains symbolic links, which are not followed: {link or run.id}"):
        open_run(workspace / "runs", run.id)


WRITERS: dict[str, Callable[[RunStore], Any]] = {
    "status": lambda run: set_status(run, step=4), "stop": request_stop, "save": request_save,
    "labels": lambda run: write_labels(run.path, note="ours"), "metrics": lambda run: add_point(run, {"step": 4}),
    "ranks": lambda run: run.write_rank_report(empty_report("ok", True, 4)), "answers": lambda run: put_answers(run, [{"ours": 1}]),
    "attempt": lambda run: set_attempt(run, ours=1), "new attempt": lambda run: add_start(run, ours=1), "exit": lambda run: end_run(run, "failed"),
    "begin": begin_training, "begin attempt": lambda run: start_again(run, "queued"), "supervisor": start_supervisor,
    "supervise": lambda run: supervise(run, this_installation()), "sweep": sweep, "replan": lambda run: replan(run, Attempt()),
    "create": lambda run: make_run(run.path.parent, config={}, config_text="", argv=None, path=run.path),
    "resume": lambda run: resume_from_here(run, this_installation(), lambda *_: pytest.fail("nothing is planned")),
}  # fmt: skip


@pytest.mark.parametrize("link", [*LINKS, *WRITTEN])
def test_no_writer_follows_a_link(link: str, workspace: Path, outside: Path) -> None:
    for number, (name, write) in enumerate(WRITERS.items()):
        run = planted_run(workspace / "runs", outside, (link,), f"planted{number}")
        if link != "exit.json":  # it ended, so that nothing of it is alive; but most is written before
            run.exit_json.unlink()
        if link in FOLDERS:
            (outside / "theirs" / link / ".checkpoint-9").mkdir(exist_ok=True)
        before = tree(outside)
        try:
            write(run)
        except (FlightdeckError, OSError) as error:
            said = str(error)
        else:
            said = ""
        assert SECRET not in said, name
        assert tree(outside) == before, name
    assert holds_secret(workspace) == []


def test_a_checkpoint_with_a_link_in_it_is_passed_over_and_one_before_is_taken(workspace: Path, outside: Path) -> None:
    run = planted_run(workspace / "runs", outside, ("checkpoints/checkpoint-7/adapter_config.json",))
    path, damaged = newest_whole(run)
    assert path is None
    assert [one.problems for one in damaged] == [("adapter_config.json: is a symbolic link",)]


def test_a_resume_of_a_planted_run_is_one_sentence(workspace: Path, outside: Path) -> None:
    run = planted_run(workspace / "runs", outside, ("checkpoints/checkpoint-7/adapter_config.json", "train.log"))
    with pytest.raises(RunError) as raised:
        resume_from_here(run, this_installation(), lambda *_: pytest.fail("nothing is planned"))
    assert "not followed: checkpoints/checkpoint-7/adapter_config.json, train.log. Replace them" in str(raised.value)


@pytest.mark.parametrize("begin", ["begin", "begin attempt", "create"])
def test_no_training_begins_in_a_run_with_a_link(begin: str, workspace: Path, outside: Path) -> None:
    """What trains reads and writes by libraries that follow whatever they find."""
    run = planted_run(workspace / "runs", outside, ("checkpoints/checkpoint-7/adapter_config.json",))
    with pytest.raises(RunError, match=r"not followed: checkpoints/checkpoint-7/adapter_config\.json"):
        WRITERS[begin](run)


def test_the_adapter_of_a_run_is_refused_for_its_own_links_alone(workspace: Path, outside: Path) -> None:
    run = planted_run(workspace / "runs", outside, ("train.log",))
    assert own_adapter(run.path) == run.adapter
    run = planted_run(workspace / "runs", outside, ("adapter/flightdeck.json",), "second")
    with pytest.raises(RunError, match=r"adapter/flightdeck\.json"):
        own_adapter(run.path)


def test_a_copied_run_shows_the_rest_and_says_what_it_does_not_follow(workspace: Path, outside: Path) -> None:
    run = planted_run(workspace / "elsewhere", outside, ("train.log", "adapter"))
    found = open_folder(run.path)
    assert found.title == "ours"
    assert [problem.text("en") for problem in found.problems] == [
        "Run planted contains symbolic links, which are not followed: adapter, train.log. Replace them with the files themselves."
    ]
    assert found.adapter == run.checkpoints / "checkpoint-7" or found.adapter is None


def test_a_training_of_another_tool_may_link_within_the_roots(tmp_path: Path, outside: Path) -> None:
    state = json.dumps({"global_step": 5, "log_history": [{"step": 5, "loss": 1.5}]})
    snapshot, blobs = tmp_path / "hub/models--a--b/snapshots/1", tmp_path / "hub/models--a--b/blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (blobs / "x").write_text(state)
    (snapshot / "trainer_state.json").symlink_to("../../blobs/x")
    assert open_folder(snapshot, (tmp_path / "hub",)).step == 5
    (outside / "x").write_text(state)
    (snapshot / "checkpoint-9").mkdir()
    (snapshot / "checkpoint-9/trainer_state.json").symlink_to(outside / "x")
    found = open_folder(snapshot, (tmp_path / "hub",))
    assert found.checkpoints == ()
    assert "trainer_state.json in " in found.problems[0].text("en")
    (snapshot / "trainer_log.jsonl").symlink_to(outside / "x")
    with pytest.raises(FlightdeckError, match=r"trainer_log\.jsonl in .* is a symbolic link"):
        open_folder(snapshot, (tmp_path / "hub",))


def test_a_supervisor_starts_no_trainer_into_a_linked_log(workspace: Path, outside: Path) -> None:
    run = planted_run(workspace / "runs", outside, ())
    run.exit_json.unlink()
    (run.attempts / "1.json").write_text(json.dumps({"argv": [sys.executable, "-c", "print('written')"]}))
    run.train_log.unlink()
    run.train_log.symlink_to(outside / "new.log")
    supervise(run, this_installation())
    assert not (outside / "new.log").exists()
    assert run.state().state == "failed"
