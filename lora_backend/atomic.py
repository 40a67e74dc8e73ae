"""Write a file so that a reader, or the next start after a crash, sees the old content or the new, never half."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write beside `path`, flush to the disk, then replace. Raises `OSError`; `path` then is as it was."""
    content = data.encode("utf-8") if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    """`value` as JSON with the format's number, by `write_atomic`."""
    write_atomic(path, json.dumps({"format": 1, **value}, ensure_ascii=False, indent=1, default=str) + "\n")
