"""A file of prompts: one a line, or JSON lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_backend.data import prompt_rows
from lora_backend.data.prompt_rows import keep_prompts, read_prompts
from lora_backend.errors import DataError


def asked(path: Path) -> list[str]:
    return [question["messages"][-1]["content"] for question in read_prompts(path)]


def test_a_prompt_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes('\ufeffhow tall?\r\n\n  为什么？ \n{"prompt": 1}'.encode())
    assert asked(file) == ["how tall?", "为什么？", '{"prompt": 1}']
    assert {(*question["expect"], question["group"]) for question in read_prompts(file)} == {("",)}


def test_json_lines_hold_a_prompt_or_messages(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "two\\nlines"}\n{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}\n')  # fmt: skip
    assert asked(file) == ["two\nlines", "u"]
    assert len(read_prompts(file)[1]["messages"]) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.txt", b"\n \n", "The prompt file p.txt is empty"),
        ("p.jsonl", b"", "The prompt file p.jsonl is empty"),
        ("p.txt", b"good\n\xff\xfe\n", "Line 2 of p.txt is not UTF-8"),
        ("p.jsonl", b'{"prompt": ""}', "Line 1 of p.jsonl: `prompt` must be a text"),
        ("p.jsonl", b'{"messages": [{"role": "assistant", "content": "a"}]}', "ends with the user"),
        ("p.jsonl", b"{", "is not JSON"),
        ("p.txt", b"a\nb\nc\n", "has more than 2"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, says: str
) -> None:
    monkeypatch.setattr(prompt_rows, "MOST_PROMPTS", 2)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_prompts(tmp_path / name)


def test_typed_prompts_are_kept_once(tmp_path: Path) -> None:
    first = keep_prompts("a\nb", tmp_path / "data")
    assert keep_prompts("a\nb", tmp_path / "data") == first
    assert asked(first) == ["a", "b"]
    assert keep_prompts("c", tmp_path / "data") != first
