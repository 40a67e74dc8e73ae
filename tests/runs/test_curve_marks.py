"""Where a run's curves are marked, and the clock that its pauses do not count on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lora_backend.atomic import write_json
from lora_backend.runs.history.curve_marks import marks_of, without_pauses
from lora_backend.runs.record.curves import points, read_columns
from lora_backend.runs.record.locked_files import append_jsonl
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import add_point, add_start, end_run, make_run, set_status


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    """A run of 40 steps, 2 s each, that its first start left at step 25; the second went on from step 20 a day later."""
    run = make_run(tmp_path, config={"model_name": "m"}, config_text="", argv=None, attempt={})
    add_start(run, resume_from="checkpoint-20", from_step=20)
    write_json(run.attempt_exit_json(1), {"state": "failed"})
    for step in range(21, 26):
        append_jsonl(run.attempt_metrics_jsonl(2), {"step": step, "loss": 1.0})
    for step in range(1, 41):
        time = 1000.0 + 2 * step + (86_400 if step > 20 else 0)
        add_point(run, {"step": step, "loss": 1.0, "tokens_per_s": 50.0, "time": time})
    return run


def test_a_start_that_failed_is_marked_where_it_was_and_where_the_next_went_on(run: RunStore) -> None:
    marks = marks_of(run, read_columns(run.metrics_jsonl))
    assert (marks.saved, marks.ended, marks.resumed) == ([], [25], [20])


def test_a_start_that_nothing_was_taken_back_of_ended_where_the_next_went_on(run: RunStore) -> None:
    run.attempt_metrics_jsonl(2).unlink()
    assert marks_of(run, read_columns(run.metrics_jsonl)).ended == [20]


@pytest.mark.parametrize(("state", "stopped"), [("stopped", [25, 40]), ("finished", [25])])
def test_the_last_start_is_marked_where_it_ended_too_early(run: RunStore, state: str, stopped: list[int]) -> None:
    set_status(run, state="running")
    end_run(run, state)
    assert marks_of(run, read_columns(run.metrics_jsonl)).ended == stopped


def test_the_day_between_two_starts_counts_neither_as_time_nor_as_tokens(run: RunStore) -> None:
    columns = without_pauses(read_columns(run.metrics_jsonl), [20])
    assert points(columns, "loss", "time")[0].tolist() == [2.0 * step for step in range(40)]
    assert points(columns, "loss", "tokens")[0][-1] == 39 * 2 * 50


def test_a_run_that_was_never_resumed_keeps_its_clock(run: RunStore) -> None:
    columns = read_columns(run.metrics_jsonl)
    assert without_pauses(columns, []) is columns
    assert without_pauses({}, [20]) == {}
    odd = columns | {"step": np.full(40, np.nan)}
    assert without_pauses(odd, [20]) is odd
