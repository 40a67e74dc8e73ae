"""A log is read by byte offset, whole lines, without losing or doubling one; a search finds records, not lines."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_backend.runs.record.logs import LEVELS, LONGEST_LINE, PART_BYTES, read_log, search_log

LINES = """\
Loading weights of a library
2026-01-01 10:00:00,000 INFO lora_backend.training: step 1 of 9
2026-01-01 10:00:01,000 WARNING lora_backend.training: slow <b>disk</b>
2026-01-01 10:00:02,000 ERROR lora_backend.trainer.session: the run failed
Traceback (most recent call last):
  File "x.py", line 1
ValueError: no
2026-01-01 10:00:03,000 INFO lora_backend.training: Saved
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "train.log"
    path.write_text(LINES)
    return path


def test_parts_put_together_are_the_file(log: Path) -> None:
    end: int | None = None
    parts: list[str] = []
    while end != 0:
        part = read_log(log, end, max_bytes=120)
        parts.insert(0, part.text)
        end = part.start
    assert "".join(parts) == LINES
    assert len(parts) > 3
    assert read_log(log).is_newest
    assert not read_log(log, 100).is_newest


@given(st.binary(max_size=300), st.integers(2, 80))
def test_no_byte_is_lost_or_shown_twice_whatever_is_in_it(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.log"
    path.write_bytes(data)
    end, ranges = len(data), []
    while end > 0:
        part = read_log(path, end, size)
        assert part.end == end
        assert part.start < part.end, "each part goes on"
        ranges.append((part.start, part.end))
        end = part.start
    assert all(later[0] == earlier[1] for later, earlier in pairwise(ranges))


def test_a_search_finds_whole_records_by_level_and_words(log: Path) -> None:
    errors = search_log(log, level="ERROR")
    assert errors.num_found == 1
    assert errors.text.startswith("2026-01-01 10:00:02")
    assert errors.text.endswith("ValueError: no\n"), "a traceback belongs to its record"
    assert search_log(log, "valueerror FAILED").num_found == 1
    assert search_log(log, level="WARNING").num_found == 2
    assert search_log(log, "nowhere").num_found == 0
    assert search_log(log, "library").text == "Loading weights of a library\n"
    assert search_log(log, "library", "INFO").num_found == 0, "it has no level"
    assert search_log(log).text == LINES


def test_the_newest_records_come_first_and_the_search_goes_on_from_there(log: Path) -> None:
    first = search_log(log, level="INFO", most=2)
    assert [line for line in first.text.splitlines() if "10:00" in line][-1].endswith("Saved")
    older = search_log(log, level="INFO", end=first.start)
    assert older.num_found == 2
    assert older.text + first.text == LINES.partition("\n")[2]


@pytest.mark.parametrize("level", LEVELS)
def test_a_line_of_fifty_megabytes_is_cut_and_bad_text_is_shown(tmp_path: Path, level: str) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(b"a" * 50_000_000 + b"\xff\n")
    assert len(read_log(path).text) <= LONGEST_LINE + 3 <= PART_BYTES
    assert len(search_log(path, level=level).text) <= LONGEST_LINE + 3
    path.write_bytes(b"caf\xe9\n")
    assert read_log(path).text == "caf\ufffd\n"


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none").text == search_log(tmp_path / "none").text == ""
