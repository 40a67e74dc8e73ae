"""What is wrong with a file of rows is one sentence that names the file, the row and what to do."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lora_backend.data import raw_rows, text_rows
from lora_backend.data.example_file import open_examples
from lora_backend.data.examples import Pair
from lora_backend.errors import DataError
from tests.data.row_files import written

GOOD = {"prompt": "a", "completion": "b"}
LINE = json.dumps(GOOD).encode() + b"\n"


def refusal(path: Path, max_bad_rows: int | None = 0) -> str:
    """The sentence about a data set; it names its file and has no traceback in it."""
    with pytest.raises(DataError) as raised:
        open_examples(path, path.parent / "kept", max_bad_rows=max_bad_rows)
    said = str(raised.value)
    assert path.name in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("d.jsonl", LINE + b"{oops\n", "Line 2 of d.jsonl: the line is not JSON"),
        ("d.jsonl", LINE + b'{"prompt": "\xe9"}\n', "Line 2 of d.jsonl: the text is not UTF-8; save the file as UTF-8"),
        ("d.jsonl", LINE + b"\n" + b"[1]\n", "Line 3 of d.jsonl: a row must be a JSON object"),
        ("d.jsonl", LINE + b"[" * 100_000, "Line 2 of d.jsonl: the line is not JSON"),
        ("d.jsonl", LINE + b'{"messages": [{"role": "user", "content": "a"}]}\n', "Line 2 of d.jsonl: it is written as messages, but the rows before it as prompt_completion"),
        ("d.jsonl", LINE.decode().encode("utf-16"), "not UTF-8"), ("d.jsonl", b"", "d.jsonl is empty"), ("d.jsonl", b" \n\n", "is empty"),
        ("d.jsonl", b"\xef\xbb\xbf\n", "is empty"), ("d.jsonl", b'{"left": 1}\n', "The rows of d.jsonl have the columns `left`"),
        ("d.json", b"[" + LINE + b", {]", "Line 2 of d.json is not JSON"), ("d.json", b"[" + LINE, "Line 2 of d.json is not JSON (Unexpected end)"),
        ("d.json", b"[" + LINE + b"] x", "Line 2 of d.json is not JSON (Extra data)"), ("d.json", b"[" + LINE + b", 3]", "Line 2 of d.json: a row must be a JSON object"),
        ("d.json", b"[]", "is empty"), ("d.json", b'[{"prompt": "\xe9"}]', "is not UTF-8"), ("d.json", b'{"rows": []}', "The rows of d.json have the columns `rows`"),
        ("d.csv", b'prompt,completion\na,b\n"c"x,d\n', "Line 3 of d.csv has a wrong quote"),
        ("d.csv", b'prompt,completion\na,b\n"c,d\ne,f\n', "Line 3 of d.csv has a wrong quote (unexpected end of data)"),
        ("d.csv", b"prompt,completion\na,b\nc\n", "Line 3 of d.csv: it has 1 cells and the first line 2"),
        ("d.csv", b"prompt,prompt\na,b\n", "names the column prompt twice"), ("d.csv", b"prompt,completion\n", "is empty"), ("d.csv", b"", "is empty"),
        ("d.csv", b"prompt,completion\na,b\nc,\xe9\n", "d.csv is not UTF-8, from about line"), ("d.csv", b"prompt,completion\n\na,\n", "Line 3 of d.csv: `completion` is empty"),
        ("d.tsv", b"prompt\tcompletion\na\tb\tc\n", "Line 2 of d.tsv: it has 3 cells"),
        ("d.parquet", b"PAR1 and no more", "d.parquet is not a complete Parquet file"), ("d.parquet", LINE, "is not a complete Parquet file"),
        ("d.arrow", b"ARROW1 and no more", "d.arrow is not a complete Arrow file"), ("d.arrow", LINE, "is not a complete Arrow file"),
        ("d.jsonl.gz", gzip.compress(LINE * 1000, mtime=0)[:-8], "d.jsonl.gz cannot be unpacked: it was cut off or is damaged"),
        ("d.jsonl.gz", gzip.compress(LINE + b"{oops", mtime=0), "Line 2 of d.jsonl.gz: the line is not JSON"),
        ("d.csv.zst", pa.compress(b"prompt,completion\n" * 99, "zstd", asbytes=True)[:-3], "cannot be unpacked"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_sentence_with_its_row(name: str, data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert says in refusal(tmp_path / name)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "feather"])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.98])
def test_a_table_that_is_cut_off_is_said_and_nothing_of_it_is_trained_on(kind: str, part: float, tmp_path: Path) -> None:  # fmt: skip
    whole = written(tmp_path, [{"prompt": "a" * 100, "completion": str(number)} for number in range(2000)], kind)
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    assert "It was cut off or is damaged; copy or download it again." in refusal(whole)
    assert not list((tmp_path / "kept").glob("*.jsonl"))


def test_a_bad_row_of_a_table_is_named_by_its_number(tmp_path: Path) -> None:
    assert "Row 2 of rows.parquet: `completion` is empty" in refusal(written(tmp_path, [GOOD, {"prompt": "c"}], "parquet"))  # fmt: skip


def test_pictures_in_a_table_are_no_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [b"\x89PNG"], "completion": ["b"]}), tmp_path / "d.parquet")
    assert "Row 1 of d.parquet: `prompt` must be a text" in refusal(tmp_path / "d.parquet")


def test_several_bad_rows_are_counted_and_the_first_are_named_with_the_key(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(LINE + b"{\n" * 3 + LINE + b"[]\n")
    said = refusal(path, 3)
    assert said.startswith("4 rows are bad, and `max_bad_rows` allows 3. Line 2 of d.jsonl:")
    assert "Line 4" in said
    assert "Line 6" not in said
    assert said.endswith("Fix or remove them, or set `max_bad_rows` to 4 to train without them.")


def test_as_many_bad_rows_as_allowed_are_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"{oops\n" + LINE + b'{"prompt": "c", "completion": ""}\n' + LINE.replace(b"a", b"x"))
    found = open_examples(path, tmp_path / "kept", max_bad_rows=2)
    assert list(found) == [found[0], found[1]] == [Pair("a", "b"), Pair("x", "b")]
    assert [found.row_number(index) for index in range(2)] == [2, 4]
    assert [(bad.row, bad.line, bad.file) for bad in found.bad_rows] == [(1, 1, "d.jsonl"), (3, 3, "d.jsonl")]
    assert (found.num_bad_rows, found.notes[0].code, found.notes[0].rows) == (2, "empty_answer", [3])
    with pytest.raises(IndexError):
        found[2]


def test_a_set_of_bad_rows_alone_is_refused_however_many_may_be(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"prompt": "c", "completion": ""}\n' * 3)
    assert "No row of d.jsonl is left to train on" in refusal(path, 3)
    path.write_bytes(b"{\n" * 3)
    assert "3 rows are bad" in refusal(path, 3)


def test_ten_megabytes_in_one_cell_are_read_and_more_than_a_row_may_have_is_refused(tmp_path: Path) -> None:
    cell = "x" * 10 * 2**20
    for kind in ("jsonl", "json", "csv", "parquet"):
        (found,) = open_examples(written(tmp_path, [{"prompt": "a", "completion": cell}], kind), tmp_path / "kept")
        assert found == Pair("a", cell)
        long = written(tmp_path, [GOOD, {"prompt": "a", "completion": cell + cell}], kind, name="long")
        assert "16.00 MiB" in refusal(long) or "field larger than field limit" in refusal(long)


def test_a_line_that_never_ends_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_rows, "MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(raw_rows, "MAX_ROW_BYTES", 1000)
    rows = list(text_rows.jsonl_rows(io.BytesIO(b"x" * 10_000 + b"\n" + LINE), "d"))
    assert [(row.line, row.values) for row in rows] == [(1, None), (2, GOOD)]


def test_what_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "d.jsonl.gz"
    packed.write_bytes(gzip.compress(LINE * 100_000))
    with pytest.raises(DataError, match=r"d\.jsonl\.gz unpacks to more than 1\.00 MiB"):
        open_examples(packed, tmp_path / "kept", most_bytes=2**20)
    table = written(tmp_path, [GOOD] * 100_000, "parquet")
    with pytest.raises(DataError, match=r"rows\.parquet unpacks to more than 1\.00 MiB"):
        open_examples(table, tmp_path / "kept", most_bytes=2**20)
    assert not [path for path in (tmp_path / "kept").iterdir() if path.name.startswith(".")], "and leaves nothing"
