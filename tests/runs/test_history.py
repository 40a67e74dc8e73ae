"""All runs as rows, what people say of them, the bin, and curves that lose no spike."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_backend.atomic import write_json
from lora_backend.config.diff import ABSENT
from lora_backend.errors import RunError
from lora_backend.installation import this_installation
from lora_backend.runs.history.run_table import History, config_differences, filtered, first_and_last_loss, read_row
from lora_backend.runs.history.trash import Bin, Deleted, disk_bytes
from lora_backend.runs.processes import recovery
from lora_backend.runs.processes.supervisor import KILL_AFTER_S, supervise
from lora_backend.runs.processes.waiting import enter, entries
from lora_backend.runs.record.curves import COLUMNS, downsample, points, read_columns, smooth, span_of
from lora_backend.runs.record.documents import Labels
from lora_backend.runs.record.failures import failure_of
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_labels import read_labels, write_labels
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.runs.record.transitions import request_stop
from lora_backend.views.state_view import ended_at_latest, stopping_messages
from tests.run_files import add_point, add_start, end_run, make_run, set_status, start_again


def made(workspace: Path, name: str, state: str = "finished", **config: Any) -> RunStore:
    run = make_run(
        workspace / "runs",
        config={"r": 8, **config},
        config_text="",
        argv=None,
        path=workspace / "runs" / name,
        name=name,
    )
    add_point(run, {"step": 1, "loss": 2.0, "time": 0.0})
    add_point(run, {"step": 2, "loss": 1.5, "eval_loss": 1.7, "time": 2.0, "tokens_per_s": 10.0})
    if state != "running":
        end_run(run, state)
    return run


# -------------------------------------------------------------------------------------------------- rows


def test_a_row_has_every_config_key_and_the_newest_figures_as_columns(tmp_path: Path) -> None:
    row = read_row(made(tmp_path, "a", learning_rate=1e-4))
    assert row is not None
    assert (row.column("r"), row.column("learning_rate"), row.column("loss"), row.column("eval_loss")) == (
        8,
        1e-4,
        1.5,
        1.7,
    )
    assert row.column("nothing") is None
    assert json.loads(json.dumps(row.to_json()))["state"] == "finished"


def test_a_run_that_was_lost_without_an_end_is_seen_to_go_on(tmp_path: Path) -> None:
    run, history = made(tmp_path, "a", "running"), History(tmp_path / "runs")
    add_start(run, device_uuids=[])
    mine = identify(os.getpid())
    assert mine
    set_status(run, state="running", trainer=mine.to_json() | {"boot_id": "another"})
    assert [row.state.state for row in history.rows()] == ["lost"]
    start_again(run, "queued")
    assert [row.state.state for row in history.rows()] == ["queued"]


def test_a_look_at_a_queued_run_reads_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [made(tmp_path, name, "running") for name in "abc"]
    monkeypatch.setattr(recovery, "start_queue", lambda workspace: None)
    for run in runs:
        end_run(run, "stopped")
        start_again(run, "queued", device_uuids=[])
        enter(run, tmp_path)
    read: list[str] = []
    status = RunStore.read_status
    monkeypatch.setattr(RunStore, "read_status", lambda self: read.append(self.id) or status(self))  # type: ignore[func-returns-value]
    assert recovery.recover(runs[0]).state == "queued"
    assert set(read) == {"a"}
    assert len(entries(tmp_path)) == 3


def test_first_and_last_loss_come_from_both_ends_of_a_long_curve(tmp_path: Path) -> None:
    run = made(tmp_path, "a", "running")
    assert first_and_last_loss(run) == (2.0, 1.5)
    run.metrics_jsonl.unlink()
    assert first_and_last_loss(run) is None
    add_point(run, {"step": 0, "time": 0.0})
    assert first_and_last_loss(run) is None
    for step in range(5_000):
        add_point(run, {"step": step, "loss": 3.0 - step / 5_000, "time": 0.0})
    assert first_and_last_loss(run) == (3.0, 3.0 - 4_999 / 5_000)


def test_a_figure_is_its_newest_number_whatever_stands_around_it(tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    add_point(run, {"step": 3, "loss": None, "note": '"eval_loss"', "time": 3.0})
    with run.metrics_jsonl.open("a") as file:
        file.write('{"step": 4, "loss": 9, "eval_lo')
    row = read_row(run)
    assert row is not None
    assert (row.column("loss"), row.column("eval_loss"), row.column("grad_norm")) == (1.5, 1.7, None)


@pytest.mark.parametrize("said", [True, False, None])
def test_a_row_says_what_the_rank_check_said_however_long_its_report(said: bool | None, tmp_path: Path) -> None:
    run, other = made(tmp_path, "a"), made(tmp_path, "b")
    layers = [{"name": f"layer{number}", "is_consistent": not said} for number in range(1000)]
    rest = {"status": "ok", "expected_r": 4, "mismatched_layers": [], "warnings": [], "layers": layers}
    write_json(run.rank_report_json, {"is_consistent": said, **rest})
    write_json(other.rank_report_json, {**rest, "is_consistent": said})
    assert [row.is_consistent for row in History(tmp_path / "runs").rows()] == [said, said]
    run.rank_report_json.write_text('{"is_cons')
    assert [row.is_consistent for row in History(tmp_path / "runs").rows()] == [said, None]


def test_pinned_runs_come_first_then_the_newest(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        made(tmp_path, name)
    write_labels(tmp_path / "runs/1", pinned=True)
    assert [row.id for row in History(tmp_path / "runs").rows()] == ["1", "3", "2"]


def test_an_ended_run_is_read_again_only_when_a_file_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "a")
    made(tmp_path, "b", "running")
    history = History(tmp_path / "runs")
    reads: list[str] = []
    from lora_backend.runs.history import run_table as module

    original = module.read_row

    def counted(run: RunStore) -> Any:
        reads.append(run.id)
        return original(run)

    monkeypatch.setattr(module, "read_row", counted)
    history.rows()
    assert sorted(reads) == ["a", "b"]
    history.rows()
    assert sorted(reads) == ["a", "b", "b"], "what goes on is read each time"
    write_labels(tmp_path / "runs/a", note="new")
    assert next(row for row in history.rows() if row.id == "a").labels.note == "new"


def test_a_folder_that_is_gone_or_broken_hides_no_other(tmp_path: Path) -> None:
    made(tmp_path, "a")
    made(tmp_path, "b")
    (tmp_path / "runs/b/run.json").write_text('{"id": "b", "conf')
    assert [row.id for row in History(tmp_path / "runs").rows()] == ["a"]


def test_the_filter_looks_at_words_states_and_tags(tmp_path: Path) -> None:
    made(tmp_path, "one", dataset="shop.jsonl")
    made(tmp_path, "two", "failed", dataset="faq.jsonl")
    write_labels(tmp_path / "runs/two", tags=["night"], note="对比")
    rows = History(tmp_path / "runs").rows()
    assert [row.id for row in filtered(rows, "SHOP")] == ["one"]
    assert [row.id for row in filtered(rows, "对比 faq")] == ["two"]
    assert [row.id for row in filtered(rows, states=["failed"])] == ["two"]
    assert [row.id for row in filtered(rows, tags=["night"])] == ["two"]
    assert filtered(rows, "shop faq") == []


def test_only_what_differs_is_compared_and_equal_numbers_are_equal() -> None:
    found = config_differences([{"r": 8, "lr": 1e-4, "a": 1}, {"r": 16, "lr": 0.0001}, {"r": 8, "lr": 1e-4, "a": 1}])
    assert found == {"r": [8, 16, 8], "a": [1, ABSENT, 1]}


# ---------------------------------------------------------------------------------------- labels, bin, disk


def test_labels_are_text_whatever_they_hold_and_long_ones_are_refused(tmp_path: Path) -> None:
    tag = "<script>alert(1)</script>"
    write_labels(tmp_path, tags=[" a ", "a", "", tag], note="n")
    assert read_labels(tmp_path) == Labels(tags=["a", tag], note="n")
    write_labels(tmp_path, archived=True)
    assert read_labels(tmp_path) == Labels(tags=["a", tag], note="n", archived=True)
    with pytest.raises(RunError, match="up to 40 characters"):
        write_labels(tmp_path, tags=["x" * 41])
    assert read_labels(tmp_path).tags == ["a", tag]
    (tmp_path / "labels.json").write_text("[")
    assert read_labels(tmp_path) == Labels()


def test_a_deleted_run_comes_back_whole_and_an_emptied_bin_is_empty(tmp_path: Path) -> None:
    run, place = made(tmp_path, "a"), Bin(tmp_path)
    before = sorted(path.name for path in run.path.iterdir())
    place.delete(run, "me")
    assert not run.path.exists()
    assert [(deleted.id, deleted.actor) for deleted in place.list()] == [("a", "me")]
    assert sorted(path.name for path in place.restore("a").path.iterdir()) == before
    place.delete(RunStore(tmp_path / "runs/a"))
    assert place.empty() == 1
    assert place.list() == []
    with pytest.raises(RunError, match="Run a is not in the trash"):
        place.restore("a")


def test_a_run_is_put_back_whole_or_deleted_whole_while_the_bin_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, rmtree, listed = Bin(tmp_path), shutil.rmtree, Bin.list
    for name in ("a", "b"):
        place.delete(made(tmp_path, name))
    before = sorted(path.name for path in (place.folder / "a").iterdir())

    def then_one_is_put_back(self: Bin) -> list[Deleted]:
        found = listed(self)
        self.restore("a")
        return found

    def too_late(path: Path) -> None:
        with pytest.raises(RunError, match="Run b is not in the trash"):
            place.restore("b")
        assert listed(place) == []
        raise KeyboardInterrupt

    monkeypatch.setattr(Bin, "list", then_one_is_put_back)
    monkeypatch.setattr(shutil, "rmtree", too_late)
    with pytest.raises(KeyboardInterrupt):
        place.empty()
    assert sorted(path.name for path in (tmp_path / "runs/a").iterdir()) == before
    monkeypatch.setattr(Bin, "list", listed)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert place.empty() == 0
    assert list(place.folder.iterdir()) == [], "what was interrupted is taken up at the next"


@pytest.mark.parametrize("run_id", ["..", "../runs/a", "a/b", ""])
def test_the_bin_gives_back_only_what_is_in_it(tmp_path: Path, run_id: str) -> None:
    made(tmp_path, "a")
    with pytest.raises(RunError):
        Bin(tmp_path).restore(run_id)


def test_a_run_that_goes_on_is_not_deleted(tmp_path: Path) -> None:
    run = made(tmp_path, "a", "running")
    with pytest.raises(RunError, match="Stop it first"):
        Bin(tmp_path).delete(run)
    assert run.run_json.exists()


def test_a_run_is_deleted_or_resumed_and_never_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, place, state, refused = made(tmp_path, "a", "failed"), Bin(tmp_path), RunStore.state, []

    def resume() -> None:
        try:
            start_again(run, "starting")
        except RunError as error:
            refused.append(str(error))

    other = threading.Thread(target=resume)

    def while_another_resumes_it(self: RunStore) -> RunState:
        found = state(self)
        if not other.ident:
            other.start()
            other.join(timeout=0.3)  # it has its turn only when the run is in the bin
        return found

    monkeypatch.setattr(RunStore, "state", while_another_resumes_it)
    place.delete(run)
    other.join()
    assert "was not found" in refused[0]
    supervise(run, this_installation())
    assert not run.path.exists(), "a supervisor that comes too late makes nothing anew"
    assert place.restore("a").state().state == "failed"


def test_a_run_made_again_meanwhile_is_not_overwritten_by_undo(tmp_path: Path) -> None:
    place = Bin(tmp_path)
    place.delete(made(tmp_path, "a"))
    made(tmp_path, "a", note="second")
    with pytest.raises(RunError, match="stays in the trash"):
        place.restore("a")


def test_disk_use_counts_every_file_once(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/one").write_bytes(b"1" * 100)
    (tmp_path / "two").write_bytes(b"1" * 10)
    (tmp_path / "link").symlink_to(tmp_path / "two")
    assert disk_bytes(tmp_path) == 110


# ------------------------------------------------------------------------------------------------ curves


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(lines))
    return path


def test_columns_have_a_place_for_each_point_and_leave_out_half_a_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m", '{"format":1,"step":1,"loss":2}\n', '{"step":2,"loss":null,"other":"x"}\n', '{"step":3,"lo'
    )
    columns = read_columns(path)
    assert set(columns) == set(COLUMNS)
    assert columns["step"].tolist() == [1, 2]
    assert columns["loss"][0] == 2
    assert np.isnan(columns["loss"][1])


@pytest.mark.parametrize("line", ['{"step":2,"loss":NaN}\n', "oops\n", '{"step":2,"loss":"text"}\n', "[]\n", "\n"])
def test_a_line_of_another_form_costs_no_other_line(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "m", '{"step":1,"loss":2.5}\n', line, '{"step":3,"loss":1.5}\n')
    steps, losses = points(read_columns(path), "loss")
    assert (steps.tolist(), losses.tolist()) == ([1, 3], [2.5, 1.5])


def test_without_points_there_is_nothing_to_draw(tmp_path: Path) -> None:
    assert read_columns(tmp_path / "none") == {}
    assert read_columns(write(tmp_path / "m", "")) == {}
    assert points({}, "loss")[0].tolist() == []


def test_downsampling_keeps_every_spike_and_both_ends() -> None:
    x, y = np.arange(200_000.0), np.ones(200_000)
    y[123_457], y[55_555] = 50.0, -3.0
    few_x, few_y = downsample(x, y)
    assert len(few_x) <= 2000
    assert (few_x[0], few_x[-1]) == (0, 199_999)
    assert {50.0, -3.0} <= set(few_y)
    assert (np.diff(few_x) > 0).all()
    assert few_x[few_y == 50.0].tolist() == [123_457]


def test_curves_run_over_steps_time_or_tokens(tmp_path: Path) -> None:
    rows = [{"step": s, "loss": 1.0, "time": 100.0 + 2 * s, "tokens_per_s": 5.0} for s in (1, 2, 3)]
    columns = read_columns(write(tmp_path / "m", *(json.dumps(row) + "\n" for row in rows)))
    assert points(columns, "loss", "time")[0].tolist() == [0, 2, 4]
    assert points(columns, "loss", "tokens")[0].tolist() == [0, 10, 20]


def test_all_curves_of_a_run_begin_at_its_first_point(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 1.0, "time": 10.0}, {"step": 2, "loss": 0.9, "eval_loss": 1.0, "time": 15.0}]
    columns = read_columns(write(tmp_path / "m", *(json.dumps(row) + "\n" for row in rows)))
    assert points(columns, "eval_loss", "time")[0].tolist() == [5]


@pytest.mark.parametrize("count", [20, 66, 1_000])
def test_a_smoothed_curve_begins_where_the_curve_does_and_lags_by_less_than_its_span(count: int) -> None:
    falling = 2.5 * np.exp(-np.arange(count) / (count / 8)) + np.linspace(0.1, 0, count)
    span = span_of(count)
    found = smooth(falling, span)
    assert found[0] == falling[0]
    assert 0.05 * count <= span <= max(0.1 * count, 3)
    assert (found[span:] < falling[:-span]).all()
    assert found[1] < falling[0]


def test_a_curve_that_is_not_smoothed_is_the_curve() -> None:
    raw = np.array([3.0, 1.0, 2.0])
    assert span_of(1000, 0) == 1
    assert smooth(raw, 1) is raw


def test_a_smoothed_curve_is_steadier_than_the_curve_and_keeps_its_level() -> None:
    noise = 2 + np.random.default_rng(0).normal(0, 0.3, 500)
    found = smooth(noise, span_of(500))
    assert found[50:].std() < 0.1
    assert abs(found[50:].mean() - 2) < 0.05


@pytest.mark.parametrize("changes", [1, "x", [1], None])
def test_an_attempt_that_another_hand_has_written_leaves_the_list_whole(changes: Any, tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    for _ in range(2):
        add_start(run, changes=changes)
    assert [row.id for row in History(tmp_path / "runs").rows()] == ["a"]


# ---------------------------------------------------------------------------------------- causes and words


def test_the_kernels_kill_of_an_adopted_trainer_is_told_though_nobody_has_its_code(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    assert failure_of(None, None, log, oom_killed=True).cause == "oom_killer"
    assert failure_of(None, None, log).cause == "ended_unseen"
    log.write_text("CUDA out of memory")
    assert failure_of(None, None, log, oom_killed=True).cause == "gpu_out_of_memory"


def test_a_stop_says_what_it_does_at_this_stage_and_when_it_ends_at_the_latest(tmp_path: Path) -> None:
    run = made(tmp_path, "a", "running")
    request_stop(run, deadline_s=60)
    asked_at = json.loads(run.stop_request.read_text())["time"]
    assert ended_at_latest(run) is None, "nobody watches it"
    assert "No supervisor" in stopping_messages(run)[1].text("en")
    set_status(run, supervisor=identify(os.getpid()), stage="training")
    assert ended_at_latest(run) == asked_at + 60 + KILL_AFTER_S
    asked, latest = (message.text("en") for message in stopping_messages(run))
    assert ("checkpoint" in asked, "at the latest" in latest) == (True, True)
    set_status(run, stage="loading")
    assert "ends before its first step" in stopping_messages(run)[0].text("en")
    set_status(run, stage="answering")
    assert "its adapter is saved" in stopping_messages(run)[0].text("en")


def test_tags_that_eight_write_at_once_are_all_kept(tmp_path: Path) -> None:
    run, gate = made(tmp_path, "a"), threading.Barrier(8)

    def write(number: int) -> None:
        gate.wait()
        write_labels(run.path, added=[f"tag{number}"])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read_labels(run.path).tags) == {f"tag{number}" for number in range(8)}
