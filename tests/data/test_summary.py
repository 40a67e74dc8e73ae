"""Large files of rows: read once, in another process, which has limits of its own; and every limit of a row."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend import outside
from lora_backend.data import question_rows, summary, uploads
from lora_backend.data.forms import FoundForm
from lora_backend.data.read_as import ReadAs
from lora_backend.data.row_file import RowFile, sha256_of_rows
from lora_backend.data.summary import INLINE_BYTES, Reading, reading_of, summary_of
from lora_backend.data.uploads import store_upload
from lora_backend.errors import DataError
from tests.data.large import LARGE, ROW
from tests.questions import read_questions
from tests.tiny import chats, prompts, write_rows

QUESTION = json.dumps({"messages": [{"role": "user", "content": "a" * 1000}], "expect": ["b"]}).encode() + b"\n"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read in a process of its own; in this one no row may be parsed."""
    asked: list[str] = []
    call = outside.call

    def counted(function: str, *arguments: Any, **options: Any) -> Any:
        asked.append(str(arguments[0]))
        return call(function, *arguments, **options)

    def parsed(*_: object) -> Iterator[object]:
        raise AssertionError("parsed in the page's process")

    monkeypatch.setattr(outside, "call", counted)
    monkeypatch.setattr(question_rows, "parse_rows", parsed)
    monkeypatch.setattr(RowFile, "__iter__", parsed)
    return asked


def written(path: Path, data: bytes = LARGE) -> Path:
    path.write_bytes(data)
    return path


def test_a_file_of_just_the_limit_is_read_at_once_and_a_larger_one_by_another_process(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = written(tmp_path / "large.jsonl")
    found = summary_of(large)
    assert (found.format, found.num_rows, found.columns) == (
        "prompt_completion",
        len(LARGE) // len(ROW),
        ("prompt", "completion"),
    )
    assert calls == [str(large)]
    monkeypatch.undo()
    line = b'{"prompt": "", "completion": "x"}'
    small = written(tmp_path / "small.jsonl", line[:-2] + b"x" * (INLINE_BYTES - len(line)) + b'"}')
    assert small.stat().st_size == INLINE_BYTES
    assert reading_of(small) is None
    assert summary_of(small).num_rows == 1


def test_a_large_file_is_read_once_until_it_changes(tmp_path: Path, calls: list[str]) -> None:
    path = written(tmp_path / "d.jsonl")
    first = summary_of(path)
    assert summary_of(path) == first
    assert len(calls) == 1
    written(path, LARGE + ROW)
    assert summary_of(path).num_rows == first.num_rows + 1
    assert len(calls) == 2


def test_those_who_ask_while_a_file_is_read_wait_for_the_same_reading(tmp_path: Path, calls: list[str]) -> None:
    path = written(tmp_path / "d.jsonl")
    found: list[Reading | None] = []
    threads = [threading.Thread(target=lambda: found.append(reading_of(path))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(reading) for reading in found}) == 1
    assert summary_of(path).num_rows
    assert len(calls) == 1


def test_what_is_wrong_in_a_large_file_is_said_again_without_reading_it_again(tmp_path: Path, calls: list[str]) -> None:
    path = written(tmp_path / "d.jsonl", LARGE + b"{oops\n")
    for _ in range(2):
        with pytest.raises(DataError, match=rf"Line {len(LARGE) // len(ROW) + 1} of d\.jsonl: the line is not JSON"):
            summary_of(path)
    assert len(calls) == 1


def test_the_same_content_under_another_name_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    first, second = written(tmp_path / "a.jsonl"), written(tmp_path / "b.jsonl")
    found = summary.summarize(first, "dataset", "a", kept)

    def read(*_: object) -> object:
        raise AssertionError("read again")

    monkeypatch.setattr(FoundForm, "read", read)
    assert summary.summarize(second, "dataset", "b", kept) == found
    with pytest.raises(AssertionError, match="again"):
        summary.summarize(second, "dataset", "b", kept, ReadAs("prompt_completion"))


def test_a_large_file_of_questions_is_read_there_too(tmp_path: Path, calls: list[str]) -> None:
    path = written(tmp_path / "q.jsonl", QUESTION * 1100)
    assert summary_of(path, "questions").num_rows == 1100
    assert calls == [str(path)]


def test_a_reading_that_is_ended_is_one_sentence_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "d.jsonl")
    monkeypatch.setattr(summary, "LEAST_DEADLINE_S", 0.0)
    monkeypatch.setattr(summary, "SLOWEST_BYTES_PER_S", 2**60)
    with pytest.raises(
        DataError, match=r"d\.jsonl could not be read completely: It took more than 0 s and was cancelled\."
    ):
        summary_of(path)
    monkeypatch.setattr(summary, "LEAST_DEADLINE_S", 60.0)
    monkeypatch.setattr(summary, "TRY_AGAIN_AFTER_S", 0.0)
    assert summary_of(path).num_rows


def test_a_question_of_just_the_limit_is_read_and_a_longer_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question_rows, "MAX_ROW_BYTES", len(QUESTION))
    assert len(question_rows.parse_questions(QUESTION, "d.jsonl")) == 1
    with pytest.raises(DataError, match=r"Line 2 of d\.jsonl has more than .*, which is too long for a row"):
        question_rows.parse_questions(QUESTION + b" " + QUESTION, "d.jsonl")


@pytest.mark.parametrize("read", [read_questions, sha256_of_rows, summary_of])
def test_a_pipe_and_a_device_are_no_data_set(read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "d.jsonl")
    with pytest.raises(DataError, match="is a named pipe, not a file"):
        read(tmp_path / "d.jsonl")
    with pytest.raises(DataError, match="is a device, not a file"):
        read(Path("/dev/zero"))


# ------------------------------------------------------------------------------------------------------- uploads


def test_a_large_upload_is_read_in_another_process_and_is_kept_under_its_hash(tmp_path: Path, calls: list[str]) -> None:
    told: list[float] = []
    path, num_rows = store_upload(LARGE, "d.jsonl", tmp_path, told.append)
    assert num_rows == len(LARGE) // len(ROW)
    assert path.read_bytes() == LARGE
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"
    assert len(calls) == 1
    assert summary_of(path).num_rows == num_rows
    assert len(calls) == 1, "the check of the config knows it already"


def test_whoever_comes_back_to_an_upload_finds_the_same_reading(tmp_path: Path, calls: list[str]) -> None:
    class LeftError(Exception):
        pass

    def leave(_: float) -> None:
        raise LeftError

    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(uploads, "TELL_EVERY_S", 0.0)
        with pytest.raises(LeftError):
            store_upload(LARGE, "d.jsonl", tmp_path, leave)
    path, _ = store_upload(LARGE, "d.jsonl", tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert len(calls) == 1


def test_a_large_bad_upload_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"of d\.jsonl: the line is not JSON"):
        store_upload(LARGE + b"{", "d.jsonl", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_came_back_for_is_removed_with_the_next_upload(tmp_path: Path) -> None:
    old = written(tmp_path / f"{uploads.STAGED}0", b"x")
    os.utime(old, (0, 0))
    store_upload(LARGE, "d.jsonl", tmp_path)
    assert not old.exists()


# ------------------------------------------------------------------------------------------------- the process


def takes_memory() -> int:
    return len(bytearray(outside.MEMORY_BYTES))


def tells() -> list[int]:
    outside.progress(0.5)
    print("what a library prints is no answer")
    return [os.getpid(), len(write_rows(Path(os.devnull), [*chats(), *prompts()]).name)]


def ends() -> None:
    os._exit(3)


def refuses() -> None:
    raise DataError("{file} is bad.", file="x")


def test_a_process_of_its_own_answers_tells_and_ends(tmp_path: Path) -> None:
    told: list[float] = []
    answer = outside.call(f"{__name__}:tells", on_progress=told.append)
    assert answer[0] != os.getpid()
    assert told == [0.5]


@pytest.mark.parametrize(
    ("function", "kind", "says"),
    [
        ("takes_memory", outside.OutsideError, "It needs more than 2.00 GiB of memory"), ("ends", outside.OutsideError, r"exit code 3"),
        ("refuses", DataError, "x is bad"),
    ],
)  # fmt: skip
def test_a_process_without_an_answer_is_one_sentence(function: str, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        outside.call(f"{__name__}:{function}")
