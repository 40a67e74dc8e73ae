"""From a table to many runs: how cells are read, what each row will be, and that one bad row starts nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lora_backend import outside
from lora_backend.config.diff import ABSENT
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, ModelError
from lora_backend.installation import Installation, this_installation
from lora_backend.launching import table as many
from lora_backend.launching.requests import StartOptions
from lora_backend.launching.table import TableLaunch, preview, preview_apart
from lora_backend.launching.table_rows import MAX_CELLS, MAX_COLUMNS, MAX_ROWS, cell_value, read_table
from lora_backend.planning.cost.profile import Profile
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.runs.processes.leases import release, take
from lora_backend.runs.processes.waiting import entries, leases_folder
from lora_backend.runs.record.run_store import list_runs
from lora_backend.runs.record.transitions import request_stop
from tests.run_files import record_of
from tests.tiny import stub_model


def no_trace(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
    raise ModelError("no trace here, so there is no plan")


@pytest.fixture
def places(workspace: Path, tmp_path: Path) -> Installation:
    stub_model(tmp_path / "m")
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "%s", "completion": "b"}\n' % name)  # noqa: UP031
    return this_installation(os.environ)


@pytest.fixture
def base(tmp_path: Path) -> str:
    return f"model_name: {tmp_path / 'm'}\ndataset: a.jsonl  # the first one\nr: 4\npkg: shop\n"


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_a_table_is_read_as_it_is_pasted(separator: str) -> None:
    text = "\ufeff" + "\r\n".join(["version;r;dataset", "1;8;b.jsonl", ";;", "2;;"]).replace(";", separator)
    rows = read_table(text)
    assert (rows[0].line, dict(rows[0].cells)) == (2, {"version": "1", "r": "8", "dataset": "b.jsonl"})
    assert dict(rows[-1].cells) == {"version": "2"}, "an empty cell leaves the base's value"


def test_a_sheets_empty_columns_and_lines_are_left_out_and_lines_are_counted_as_an_editor_does() -> None:
    rows = read_table("version\tr\t\t\n\n1\t8\t\t\n\t\t\t\n2\t4\u2028\t\t\n")
    assert [(row.line, dict(row.cells)) for row in rows] == [
        (3, {"version": "1", "r": "8"}),
        (5, {"version": "2", "r": "4"}),
    ]


def test_quoted_cells_hold_separators() -> None:
    (row,) = read_table('version,target_modules\n1,"[q_proj, v_proj]"\n')
    assert cell_value("target_modules", row.cells["target_modules"]) == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"), ("version,r\n", "no rows"), ("version,version\n1,2\n", "Column 2"), ("version,\n1,2\n", "Column 2"),
        ("version,r\n1,2,3\n", "Line 2"), ('version\n"1\n', "cannot be read"), ("version\n" + "1\n" * 1001, "the limit is 1000 runs"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_table(text)


@pytest.mark.parametrize(
    ("key", "cell", "value"),
    [
        ("r", "8", 8), ("version", "1.10", "1.10"), ("version", "8", "8"), ("pkg", "true", "true"), ("learning_rate", "1e-4", 1e-4),
        ("use_dora", "true", True), ("target_layers", "[0, 1]", [0, 1]), ("target_modules", "q_proj", "q_proj"), ("r", "many", "many"),
        ("dataset", "a: b", "a: b"), ("r", "-1", -1), ("unknown", "1", 1),
    ],
)  # fmt: skip
def test_a_cell_is_what_its_key_takes(key: str, cell: str, value: Any) -> None:
    found = cell_value(key, cell)
    assert (found, type(found)) == (value, type(value))


def test_the_preview_says_what_each_row_will_be(places: Installation, base: str) -> None:
    rows = read_table(
        "name\tversion\tr\tdataset\nfirst\t1.0\t8\t\n\t2.0\tx\tb.jsonl\n\t1.0\t4\t\n\t3.0\t4\t../out.jsonl\n"
    )
    first, second, third, fourth = preview(base, rows, places, BrowserRoots(places))
    assert first.name == "first"
    assert {diff.key: diff.value for diff in first.differences} == {"version": "1.0", "r": 8}
    assert "# the first one" in first.text, "the rest of the config stays as it was written"
    assert first.can_start()
    assert not second.can_start()
    assert {finding.key for finding in second.result.errors} == {"r"}
    assert third.problem is not None
    assert "line 2" in third.problem.text("en")
    assert "dataset" in {blocker.key for blocker in fourth.start.blockers}, "a path is bound whichever way it comes"


def test_one_bad_row_starts_nothing(places: Installation, base: str) -> None:
    variants = preview(base, read_table("version,r\n1,4\n2,x\n"), places, BrowserRoots(places))
    with pytest.raises(ConfigError, match="line 3"):
        TableLaunch(places, BrowserRoots(places), no_trace).start_all(variants)
    assert list_runs(places.runs) == []


def test_a_base_that_cannot_be_read_is_a_sentence(places: Installation) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        preview("r: [", read_table("version\n1\n"), places, BrowserRoots(places))


def test_every_row_becomes_a_run_in_the_tables_order(places: Installation, base: str) -> None:
    leases = take(leases_folder(places.workspace), ["cpu"], places.runs / "other")
    assert leases
    variants = preview(
        base, read_table("name,version,dataset\none,1,a.jsonl\ntwo,2,b.jsonl\nthree,3,\n"), places, BrowserRoots(places)
    )
    launched = TableLaunch(places, BrowserRoots(places), no_trace).start_all(variants, StartOptions(actor="anna"))
    try:
        assert [item.error for item in launched] == [None] * 3
        runs = [item.run for item in launched if item.run]
        assert [run.state().state for run in runs] == ["queued"] * 3
        assert [entry.run.id for entry in entries(places.workspace)] == [run.id for run in runs]
        about = [record_of(run) for run in runs]
        assert [run["name"] for run in about] == ["one", "two", "three"]
        assert [run["config"]["version"] for run in about] == ["1", "2", "3"]
        assert len({run["data_sha256"] for run in about}) == 2
        assert {run["actor"] for run in about} == {"anna"}
    finally:
        for run in list_runs(places.runs):
            request_stop(run)
        release(leases)
    assert entries(places.workspace) == []


def test_a_table_of_just_the_limits_is_read_and_a_larger_one_is_refused() -> None:
    def table(columns: int, rows: int) -> str:
        return ",".join(f"k{n}" for n in range(columns)) + "\n" + (",".join(["1"] * columns) + "\n") * rows

    assert len(read_table(table(MAX_COLUMNS, MAX_CELLS // MAX_COLUMNS))) == MAX_CELLS // MAX_COLUMNS
    assert len(read_table(table(MAX_CELLS // MAX_ROWS, MAX_ROWS))) == MAX_ROWS
    for columns, rows, says in (
        (MAX_COLUMNS + 1, 1, "101 columns"),
        (11, 910, "10000 cells"),
        (1, MAX_ROWS + 1, "1001 rows"),
    ):
        with pytest.raises(ConfigError, match=says):
            read_table(table(columns, rows))


def test_empty_columns_and_lines_without_end_are_left_out_at_once() -> None:
    (row,) = read_table("r" + "," * 400_000 + "\n8\n" + ",\n" * 100_000)
    assert row.cells == {"r": "8"}
    with pytest.raises(ConfigError, match="columns"):
        read_table(",".join(map(str, range(100_000))) + "\n8\n")


def test_rows_times_config_are_counted_before_any_is_written(places: Installation) -> None:
    rows = read_table("r\n" + "8\n" * 50)
    with pytest.raises(ConfigError, match=r"50 rows of a config of 200009 characters are more than"):
        preview("#" * 200_000 + "\nseed: 1\n", rows, places, BrowserRoots(places))


def test_a_large_table_is_previewed_in_another_process_and_says_the_same(
    places: Installation, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_table("name\tversion\tr\tlearning_rat\n" + "".join(f"n{i}\t{i}\t{i - 1}\t3\n" for i in range(4)))
    here = preview(base, rows, places, BrowserRoots(places))
    monkeypatch.setattr(many, "preview", None)  # not in this one
    monkeypatch.setattr(many, "AT_ONCE", 0)
    heard: list[float] = []
    assert preview_apart(base, rows, places, heard.append) == here
    assert heard[0] == 0
    assert any(row.base is ABSENT for row in here[0].differences)


def test_a_table_of_a_moment_is_previewed_at_once(
    places: Installation, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "call", None)
    assert len(preview_apart(base, read_table("r\n8\n9\n"), places)) == 2
