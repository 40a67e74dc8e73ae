"""Two Python processes of ours that talk in lines of JSON: one starts the other, and the other ends with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lora_backend.installation import child_environment


class PipedProcess:
    """A process that was started here, read by one thread and written to by any."""

    def __init__(self, argv: Sequence[str]) -> None:
        # Pipes tie the two together: when this process goes, the other's input ends and so does the other.
        self.popen = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=child_environment(),
        )
        self._writing = threading.Lock()

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """Without waiting: a process that just starts does not read yet, and a pipe holds 64 KB. One that died just now
        is no error here; the thread that reads it says so to who waits."""

        def write() -> None:
            assert self.popen.stdin is not None
            try:
                with self._writing:
                    self.popen.stdin.write(json.dumps(message) + "\n")
                    self.popen.stdin.flush()
            except (OSError, ValueError):
                pass

        threading.Thread(target=write, daemon=True).start()

    def messages(self) -> Iterator[dict[str, Any]]:
        """All that it says, until its output ends; it has ended then."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            try:
                yield json.loads(line)
            except ValueError:  # it died in the middle of a line
                continue
        self.popen.wait()

    def end(self) -> None:
        """End it, whatever it is doing."""
        self.popen.kill()
        self.popen.wait()


class JsonLines:
    """The other side, in the process that was started: made before a library is imported that prints."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)  # what libraries print must not come between the answers
        self._writing = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Any thread may."""
        with self._writing:
            self._answers.write(json.dumps(message, ensure_ascii=False) + "\n")

    def listen(self, hear: Callable[[dict[str, Any]], None]) -> None:
        """Give each line to `hear`, in a thread. The end of the input ends the process: who asks is gone."""
        threading.Thread(target=_listen, args=(hear,), daemon=True).start()


def _listen(hear: Callable[[dict[str, Any]], None]) -> None:
    try:
        for line in sys.stdin:
            hear(json.loads(line))
    finally:  # half a line too means that who asked is gone
        os._exit(0)  # in the middle of a load as well
