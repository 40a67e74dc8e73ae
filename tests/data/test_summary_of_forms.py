"""What a check is told of a data set: its form, what is left out of it, and whether a template writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.rules import Facts
from lora_backend.data.read_as import ReadAs
from lora_backend.data.summary import INLINE_BYTES, reading_of, summary_of
from lora_backend.data.uploads import store_upload
from lora_backend.errors import DataError
from tests.data.row_files import KINDS, PACKERS, WRITERS, written
from tests.resolving import from_here

ALPACA = [
    {"instruction": f"Add {number}.", "input": "1", "response": str(number + 1), "id": number} for number in range(5)
]


def test_a_small_set_of_any_form_is_summarized(tmp_path: Path) -> None:
    found = summary_of(written(tmp_path, [*ALPACA, ALPACA[0], {"instruction": "x"}], "csv"), kept=tmp_path / "kept", read_as=ReadAs(max_bad_rows=1))  # fmt: skip
    assert (found.format, found.num_rows, found.num_bad_rows, found.num_duplicates, found.has_chats) == ("alpaca", 6, 1, 1, True)  # fmt: skip
    assert found.read_from == (("output", "response"),)
    assert found.columns == ("instruction", "input", "response", "id")


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_set_says_the_same_from_another_process(kind: str, tmp_path: Path) -> None:
    rows = [{"text": f"{number} " + "x" * 500} for number in range(3000)]
    path = written(tmp_path, [*rows, rows[0]], kind)
    assert reading_of(path, kept=tmp_path / "kept") is not None
    found = summary_of(path, kept=tmp_path / "kept")
    assert (found.format, found.num_rows, found.num_duplicates, found.has_chats) == ("text", 3001, 1, False)


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.parquet"])
def test_what_has_to_be_unpacked_is_read_apart_however_small_it_is(name: str, tmp_path: Path) -> None:
    kind, packing = ("jsonl", ".gz") if name.endswith(".gz") else ("parquet", "")
    path = written(tmp_path, ALPACA, kind, packing)
    assert path.stat().st_size < INLINE_BYTES
    assert reading_of(path) is not None
    assert summary_of(path).num_rows == 5


def test_another_form_is_another_reading(tmp_path: Path) -> None:
    path = written(tmp_path, [{"prompt": "a", "completion": "b" * 900}] * 1500, "jsonl")
    assert summary_of(path).has_chats is False
    assert summary_of(path, read_as=ReadAs("question_answer")).has_chats is True


def test_a_folder_is_read_again_when_a_file_in_it_has_changed(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", [{"text": "a"}], "csv").parent
    assert summary_of(folder).num_rows == 1
    written(folder, [{"text": "a"}, {"text": "b"}], "csv")
    assert summary_of(folder).num_rows == 2


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_can_be_uploaded_and_keeps_its_ending(kind: str, packing: str, tmp_path: Path) -> None:
    data = PACKERS[packing](WRITERS[kind](ALPACA))
    path, num_rows = store_upload(data, f"My rows.{kind}{packing}", tmp_path)
    assert path.name.startswith("My_rows-")
    assert path.name.endswith(f".{kind}{packing}")
    assert path.read_bytes() == data
    assert num_rows == 5
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_upload_of_any_kind_leaves_nothing_behind_and_is_called_by_its_name(kind: str, tmp_path: Path) -> None:
    data = WRITERS[kind]([{"left": "a"}])
    with pytest.raises(DataError, match=rf"The rows of d\.{kind} have the columns `left`"):
        store_upload(data, f"d.{kind}", tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------- configs


def facts(tmp_path: Path, rows: list[dict[str, Any]], **values: Any) -> Facts:
    data = written(tmp_path, rows, "jsonl")
    return from_here({"model_name": "no/where", "dataset": str(data), **values}).facts


def test_a_config_says_how_its_rows_are_read(tmp_path: Path) -> None:
    rows = [{"q": "a", "a": "b"}, {"q": "c"}]
    columns = {"question": "q", "answer": "a"}
    found = facts(tmp_path, rows, data_columns=columns, max_bad_rows=1)
    assert (found.row_format, found.num_rows, found.has_chats) == ("question_answer", 1, True)
    (problem,) = [said for _, key, said in facts(tmp_path, rows, data_columns=columns).problems if key == "dataset"]
    assert problem.text("en") == "Line 2 of rows.jsonl: `a` is empty, so there is no answer to learn. Fix or remove it, or set `max_bad_rows` to 1 to train without it."  # fmt: skip


@pytest.mark.parametrize("values", [{"data_format": "nonsense"}, {"data_columns": {"prompt": 3}}, {"data_columns": ["x"]}, {"max_bad_rows": -1}, {"max_bad_rows": True}])  # fmt: skip
def test_what_a_check_refuses_is_passed_over_where_rows_are_read(values: dict[str, Any], tmp_path: Path) -> None:
    assert facts(tmp_path, [{"prompt": "a", "completion": "b"}], **values).num_rows in (1, None)
