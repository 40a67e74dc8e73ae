"""A file of prompts: one a line, or JSON lines of `prompt` or `messages`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lora_backend.atomic import write_atomic
from lora_backend.data.question_rows import parse_rows, read_bytes, sha256_of_bytes
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message

JSON_LINES = (".jsonl", ".ndjson")
MOST_PROMPTS = 10_000


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The prompts of a file as questions that expect nothing: each with `messages` that end with the user.

    A `.jsonl` holds objects of `prompt`, a text, or of `messages`; any other file has a prompt on each line. Lines without
    text are passed over. Raises `DataError` where the file cannot be read, a line is wrong, or there is no prompt.
    """
    content = read_bytes(path)
    rows = _of_json(content, path.name) if path.suffix.lower() in JSON_LINES else _of_lines(content, path.name)
    found: list[dict[str, Any]] = []
    for row in rows:
        if len(found) == MOST_PROMPTS:
            raise DataError(
                N_("The prompt file {file} has more than {count}. Split it."), file=path.name, count=MOST_PROMPTS
            )
        found.append({"messages": row, "expect": [], "group": ""})
    if not found:
        raise DataError(N_("The prompt file {file} is empty. Put one prompt on each line."), file=path.name)
    return found


def keep_prompts(text: str, root: Path) -> Path:
    """Keep typed prompts, one a line, as a file below `root`; the same twice is one file."""
    content = text.encode("utf-8", "replace")
    path = root / f"prompts-{sha256_of_bytes(content)[:8]}.txt"
    root.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
    return path


def _of_lines(content: bytes, file: str) -> Iterator[list[dict[str, Any]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise DataError(
            N_("Line {line} of {file} is not UTF-8. Save the file as UTF-8."), line=number, file=file
        ) from None
    for line in text.splitlines():
        if line.strip():
            yield [{"role": "user", "content": line.strip()}]


def _of_json(content: bytes, file: str) -> Iterator[list[dict[str, Any]]]:
    for number, row in parse_rows(io.BytesIO(content), file):
        prompt, messages = row.get("prompt"), row.get("messages")
        if isinstance(prompt, str) and prompt.strip():
            yield [{"role": "user", "content": prompt}]
        elif isinstance(messages, list) and _are_asked(messages):
            yield messages
        else:
            raise DataError(
                N_("Line {line} of {file}: {reason}. Fix or remove that line."),
                line=number,
                file=file,
                reason=Message(N_("`prompt` must be a text, or `messages` a list of role and content that ends with the user")),
            )  # fmt: skip


def _are_asked(messages: list[Any]) -> bool:
    """Whether these are messages of a chat that ends with the user."""
    return (
        bool(messages)
        and all(isinstance(one, dict) and isinstance(one.get("content"), str) and one.get("role") for one in messages)
        and messages[-1]["role"] == "user"
    )
