"""Headers of safetensors files that are large: read once, in another process, within limits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lora_backend import bounded, outside
from lora_backend.errors import ModelError
from lora_backend.models import headers
from lora_backend.models.describe import read_json_object
from lora_backend.models.headers import INLINE_BYTES, MAX_HEADER_BYTES, read_folder_headers, read_header
from tests.hostile_files import HOSTILE_HEADERS, header

ENTRY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
SLOW_TO_MAKE = "85 MB of tensors"


def of_length(length: int) -> bytes:
    """A header of that many bytes with three tensors; the rest is what anybody may write into it."""
    entries: dict[str, Any] = {"a": ENTRY, "b": ENTRY, "c": ENTRY, "__metadata__": {"x": ""}}
    spare = length - (len(header(entries)) - 8)
    return header(entries | {"__metadata__": {"x": "x" * spare}})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read in a process of its own."""
    asked: list[str] = []
    call = outside.call

    def counted(function: str, *arguments: Any, **options: Any) -> Any:
        asked.append(arguments[0])
        return call(function, *arguments, **options)

    monkeypatch.setattr(outside, "call", counted)
    return asked


def test_a_header_over_a_mebibyte_is_read_once_by_another_process(tmp_path: Path, calls: list[str]) -> None:
    small, large = tmp_path / "small.safetensors", tmp_path / "large.safetensors"
    small.write_bytes(of_length(INLINE_BYTES))
    large.write_bytes(of_length(INLINE_BYTES + 1))
    assert list(read_header(small)) == ["a", "b", "c"]
    assert calls == []
    found = read_header(large)
    assert found == read_header(small)
    found.clear()  # the reader's own
    assert len(read_header(large)) == 3
    assert calls == [str(large)]
    large.write_bytes(of_length(INLINE_BYTES + 2))
    assert len(read_header(large)) == 3
    assert len(calls) == 2


def test_a_header_of_just_the_limit_is_read_and_a_larger_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(of_length(MAX_HEADER_BYTES))
    assert len(read_header(path)) == 3
    path.write_bytes(of_length(MAX_HEADER_BYTES + 1))
    with pytest.raises(ModelError, match=r"The header of .*x\.safetensors has more than 16\.00 MiB, the limit"):
        read_header(path)


def test_as_many_tensors_as_allowed_are_read_and_one_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "MAX_TENSORS", 3)
    path = tmp_path / "model.safetensors"
    path.write_bytes(header(dict.fromkeys("abc", ENTRY) | {"__metadata__": {}}))
    assert len(read_header(path)) == 3
    path.write_bytes(header(dict.fromkeys("abcde", ENTRY)))
    with pytest.raises(ModelError, match="more than 3 tensors"):
        read_header(path)


def test_tensors_and_files_of_all_shards_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "model.safetensors.index.json"
    for name in "ab":
        (tmp_path / f"{name}.safetensors").write_bytes(header({f"{name}{n}": ENTRY for n in range(2)}))
    index.write_text(json.dumps({"weight_map": {"a0": "a.safetensors", "b0": "b.safetensors"}}))
    assert len(read_folder_headers(tmp_path, "model")) == 4
    monkeypatch.setattr(headers, "MAX_TENSORS", 3)
    with pytest.raises(ModelError, match="more than 3 tensors"):
        read_folder_headers(tmp_path, "model")
    monkeypatch.setattr(headers, "MAX_SHARDS", 1)
    with pytest.raises(ModelError, match="it names more than 1 files"):
        read_folder_headers(tmp_path, "model")


@pytest.mark.parametrize(
    "title", [title for title in HOSTILE_HEADERS if title not in (SLOW_TO_MAKE, "16 MB of tensors")]
)
def test_a_header_made_to_take_long_is_one_sentence(title: str, tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(HOSTILE_HEADERS[title]())
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors") as raised:
        read_header(path)
    assert "more than 60 s" not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [1] * 65},
        {"shape": [2**63 + 1, 0]},
        {"dtype": "F" * 33},
        {"dtype": ["F"] * 100},
        {"shape": [10**4000] * 8},
    ],
)
def test_a_shape_or_a_type_that_no_tensor_has_is_not_worked_out(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(header({"a": ENTRY | changes}))
    with pytest.raises(ModelError, match="the entry of a is not readable"):
        read_header(path)


def test_a_process_that_may_not_have_the_memory_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(of_length(INLINE_BYTES + 5))

    def call(*_: object) -> None:
        raise outside.OutsideError("It took more than {seconds} s and was cancelled.", seconds=60)

    monkeypatch.setattr(outside, "call", call)
    with pytest.raises(ModelError, match=r"The header of .*x\.safetensors could not be read: It took more than 60 s"):
        read_header(path)


def test_a_models_json_of_just_the_limit_is_read_and_a_larger_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"{" + b" " * (bounded.MAX_JSON_BYTES - 2) + b"}")
    assert read_json_object(path) == {}
    with path.open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match=r"config\.json is larger than 16\.00 MiB"):
        read_json_object(path)
    os.truncate(path, 0)
    path.write_bytes(b'{"a": [' + b"[]," * 600_000 + b"1]}")
    with pytest.raises(ModelError, match=r"config\.json contains more than 1,000,000 values"):
        read_json_object(path)
