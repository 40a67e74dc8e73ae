"""Two machines for tests: two network namespaces with addresses of their own, joined by a cable; who is in one sees no other network.

Needs root and `ip`. A process that enters one has another host name as well.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from lora_backend.runs.record.run_store import RunStore
from tests.forking_agent import be_forked_agent
from tests.peer_runs import START_S, screen_of
from tests.training.helpers import until

CLONE_NEWUTS, CLONE_NEWNET = 0x04000000, 0x40000000
"""Of sched.h."""


@dataclass(frozen=True)
class Host:
    """A machine of a test."""

    name: str
    """Of its namespace."""
    host: str
    """What it calls itself."""
    address: str

    def cut(self) -> None:
        """Pull its cable."""
        _ip("-n", self.name, "link", "set", "wire", "down")

    def forbid(self, ports: str) -> None:
        """Let it reach no such port of another machine, as a firewall does."""
        _ip("-n", self.name, "rule", "add", "pref", "10", "ipproto", "tcp", "dport", ports, "prohibit")


def why_not() -> str | None:
    """Why there can be no such machines here; None where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if _program() is None:
        return "there is no `ip`"
    name = f"fd-{secrets.token_hex(3)}"
    try:
        _ip("netns", "add", name)
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b")
        _ip("link", "del", f"{name}a")
    except subprocess.CalledProcessError as error:
        return f"the kernel gives no network namespaces: {error.stderr.strip()}"
    finally:
        subprocess.run([str(_program()), "netns", "del", name], capture_output=True, check=False)
    return None


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Joined by a cable; gone at the block's end."""
    mark, net = secrets.token_hex(3), f"10.{secrets.randbelow(256)}.{secrets.randbelow(256)}"
    hosts = Host(f"fd-{mark}-1", "gpu-one", f"{net}.1"), Host(f"fd-{mark}-2", "gpu-two", f"{net}.2")
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
            _ip("-n", host.name, "link", "set", "lo", "up")
        first, second = hosts
        _ip("-n", first.name, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", second.name)
        for host in hosts:
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "wire")
            _ip("-n", host.name, "link", "set", "wire", "up")
        yield hosts
    finally:
        for host in hosts:
            subprocess.run([str(_program()), "netns", "del", host.name], capture_output=True, check=False)


def agent_on(host: Host, run: RunStore, work: str | None = None) -> BaseProcess:
    """The run's agent as at a terminal of that machine, forked from a process that has torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.forking_agent"])
    process = context.Process(target=_be_agent_on, args=(host, str(run.path), work, str(screen_of(run))))
    process.start()
    until(lambda: run.read_status().attempt.trainer or not process.is_alive(), START_S)
    return process


def _be_agent_on(host: Host, path: str, work: str | None, log: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/var/run/netns", host.name).open() as namespace:
        for failed in (libc.setns(namespace.fileno(), CLONE_NEWNET), libc.unshare(CLONE_NEWUTS)):
            if failed:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    socket.sethostname(host.host)
    be_forked_agent(path, work, log)


def _program() -> str | None:
    return shutil.which("ip", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _ip(*words: str) -> None:
    subprocess.run([str(_program()), *words], check=True, capture_output=True, text=True)
