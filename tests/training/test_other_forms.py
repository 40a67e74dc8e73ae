"""A run on rows of another form and file trains what the same chats as JSONL train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.row_files import written
from tests.run_files import points_of
from tests.tiny import chats
from tests.training.helpers import failed_run, run

Make = Callable[..., dict[str, Any]]
PAIRS = [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in chats()]  # type: ignore[index]
SHAREGPT = [
    {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]} for asked, said in PAIRS
]


def losses(folder: Any) -> list[float]:
    return [point["loss"] for point in points_of(folder) if "loss" in point]


@pytest.fixture
def expected(config: Make, workspace: Path) -> list[float]:
    return losses(run(workspace, config(max_steps=3)))


@pytest.mark.parametrize(
    ("rows", "kind", "packing", "keys"),
    [
        (SHAREGPT, "parquet", "", {}),
        ([{"instruction": asked, "input": "", "output": said} for asked, said in PAIRS], "json", ".gz", {}),
        ([{"q": asked, "a": said} for asked, said in PAIRS] + [{"q": "no answer", "a": ""}], "csv", ".zst",
            {"data_columns": {"question": "q", "answer": "a"}, "max_bad_rows": 1}),
    ],
)  # fmt: skip
def test_it_trains_the_same(
    rows: list[dict[str, Any]], kind: str, packing: str, keys: dict[str, Any], expected: list[float], config: Make, workspace: Path, tmp_path: Path
) -> None:  # fmt: skip
    data = written(tmp_path / "other", rows, kind, packing)
    assert losses(run(workspace, config(max_steps=3, dataset=str(data), **keys))) == expected


def test_more_bad_rows_than_may_be_left_out_end_the_run_in_a_sentence(config: Make, workspace: Path, tmp_path: Path) -> None:  # fmt: skip
    data = written(tmp_path, [{"text": "a"}, {"text": ""}, {"text": " "}], "csv")
    _, said = failed_run(workspace, config(dataset=str(data), max_bad_rows=1))
    assert said.startswith("2 rows are bad, and `max_bad_rows` allows 1. Line 3 of rows.csv: `text` is empty")
