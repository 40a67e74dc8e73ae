"""Tells a command that this installation wrote into a run's folder from one that came with a folder from elsewhere.

What starts a run reads its command line from `run.json`. A folder that was copied here would have any program started
that it names, by whoever looks at it, so the command is sealed with a key that lies outside of all runs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Any

KEY_BYTES = 32


def seal_of(run: Path, argv: object, key_file: Path) -> str | None:
    """The seal of a run's command, which holds for this folder alone; None where no key can be kept.

    `key_file`: `Installation.seal_key`; what a run's folder says of it is not believed.
    """
    key = _key(key_file)
    said = json.dumps([str(run.resolve()), argv]).encode()
    return None if key is None else hmac.new(key, said, hashlib.sha256).hexdigest()


def is_sealed(run: Path, argv: object, seal: Any, key_file: Path) -> bool:
    """Whether this installation wrote that command for that folder."""
    own = seal_of(run, argv, key_file)
    return (
        own is not None and isinstance(seal, str) and hmac.compare_digest(own.encode(), seal.encode("utf-8", "replace"))
    )


def _key(path: Path) -> bytes | None:
    """The installation's key, made at the first use. Losing it costs nothing: commands are then made anew."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError:
        return None
    with os.fdopen(descriptor, "wb") as file:
        key = secrets.token_bytes(KEY_BYTES)
        file.write(key)
    return key


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            key = file.read(KEY_BYTES)
    except OSError:
        return None
    return key if len(key) == KEY_BYTES else None
