"""Leases handed down through processes that close what they do not know: as messages that wait in a socket on stdin.

A descriptor in a message is held by the socket's queue for as long as anybody has the socket open (`unix(7)`, SCM_RIGHTS),
and a message that is only peeked at stays for the next: so the leases live in every process whose stdin it is, and
each of them can take copies of its own.
"""

from __future__ import annotations

import array
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

STDIN = 0
MOST_DESCRIPTORS = 253
"""That the kernel takes in one message (SCM_MAX_FD)."""


def queue_of(descriptors: Sequence[int]) -> socket.socket:
    """A socket in whose queue the descriptors lie. Whoever gets it as its stdin has them; here it is closed then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours:
        if descriptors:
            socket.send_fds(ours, [b"leases"], list(descriptors)[:MOST_DESCRIPTORS])
    return theirs


def take_copies() -> list[int]:
    """Copies of the descriptors that lie in stdin's queue, which no child inherits; none where nothing lies there.

    From then on stdin is empty: what this process starts does not hold the leases.
    """
    copies = _peeked()
    nowhere = os.open(os.devnull, os.O_RDONLY)
    if nowhere != STDIN:
        os.dup2(nowhere, STDIN)
        os.close(nowhere)
    return copies


@contextmanager
def on_stdin(descriptors: Sequence[int]) -> Iterator[None]:
    """Let what the block starts inherit the descriptors by its stdin; without any it is what it was."""
    if not descriptors:
        yield
        return
    before = os.dup(STDIN)
    with queue_of(descriptors) as queue:
        os.dup2(queue.fileno(), STDIN)
    try:
        yield
    finally:
        os.dup2(before, STDIN)
        os.close(before)


def _peeked() -> list[int]:
    try:
        if not stat.S_ISSOCK(os.fstat(STDIN).st_mode):
            return []
        found = array.array("i")
        with socket.socket(fileno=os.dup(STDIN)) as queue:
            flags = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            _, ancillary, _, _ = queue.recvmsg(64, socket.CMSG_LEN(MOST_DESCRIPTORS * found.itemsize), flags)
    except OSError:  # no stdin, or nothing lies there
        return []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)
