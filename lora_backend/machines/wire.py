"""A connection between two machines of a run: a message a line, as JSON, of a bounded size; nothing that arrives is run."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lora_backend.typed_json import Part

MAX_LINE_BYTES = 2**20
MAX_UNSENT_BYTES = 8 * 2**20
"""A machine that takes no more is as good as gone."""
SILENT_S = 60.0
"""A machine of which nothing was heard for so long is gone: a cable that was pulled closes no connection."""
HEARTBEAT_S = 5.0
"""So often something is said, even where nothing is new."""
LAST_BYTES_S = 5.0
"""So long a connection is kept to send the rest of what was said."""


class Wire:
    """One end of a connection. Neither sending nor receiving waits; whoever uses it calls often."""

    def __init__(self, connection: socket.socket, kinds: Mapping[str, type[Part]]) -> None:
        """`kinds`: of the messages that may come, by the name of their class."""
        connection.setblocking(False)
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection, self._kinds = connection, kinds
        self._received, self._unsent = bytearray(), bytearray()
        self.lost: str | None = None
        """Why it is of no use any more."""
        self.is_bad = False
        """Whether something came over it that is no message."""
        self.peer_address = _address(connection.getpeername())
        self.own_address = _address(connection.getsockname())
        self.heard_at = self._said_at = time.monotonic()

    def send(self, message: Part) -> None:
        """Say it, as soon as the other end takes it. One that is gone is no error: `lost` says so."""
        line = json.dumps({"kind": type(message).__name__, **message.to_json()}) + "\n"
        self._unsent += line.encode("ascii")
        self._said_at = time.monotonic()
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self._lose("it takes no more")
        self._push()

    @property
    def is_heartbeat_due(self) -> bool:
        """Whether nothing was said for a while."""
        return time.monotonic() - self._said_at >= HEARTBEAT_S

    def receive(self) -> list[Part]:
        """What has come since, in its order."""
        self._push()
        found: list[Part] = []
        while self.lost is None and select.select([self._connection], [], [], 0)[0]:
            try:
                more = self._connection.recv(65536)
            except BlockingIOError:
                break
            except OSError as error:
                self._lose(error.strerror or type(error).__name__)
                break
            if not more:
                self._lose("it was closed")
                break
            self.heard_at = time.monotonic()
            self._received += more
            found += self._whole_lines()
        if self.lost is None and time.monotonic() - self.heard_at > SILENT_S:
            self._lose(f"nothing was heard for {SILENT_S:g} s")
        return found

    def close(self) -> None:
        """Send the rest, as long as the other end takes it, and end the connection."""
        deadline = time.monotonic() + LAST_BYTES_S
        while self.lost is None and self._unsent and time.monotonic() < deadline:
            select.select([], [self._connection], [], 0.1)
            self._push()
        self._connection.close()
        self.lost = self.lost or "it was closed"

    def _whole_lines(self) -> list[Part]:
        *lines, rest = self._received.split(b"\n")
        self._received = bytearray(rest)
        found = [self._message(bytes(line)) for line in lines if len(line) <= MAX_LINE_BYTES]
        if len(rest) > MAX_LINE_BYTES or len(found) < len(lines) or None in found:
            self.is_bad = True
            self._lose("what came is no message")
        return [message for message in found if message is not None]

    def _message(self, line: bytes) -> Part | None:
        try:
            data: dict[str, Any] = json.loads(line)
            return self._kinds[data.pop("kind")].model_validate(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def _push(self) -> None:
        while self.lost is None and self._unsent:
            try:
                sent = self._connection.send(self._unsent)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error.strerror or type(error).__name__)
                return
            del self._unsent[:sent]

    def _lose(self, why: str) -> None:
        self.lost = self.lost or why
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


def _address(name: Any) -> str:
    return str(name[0]).partition("%")[0]
