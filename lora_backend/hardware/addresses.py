"""How this machine is reached by others: its addresses towards the network, and which of its ports are free."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

INSIDE = ("docker", "br-", "veth", "virbr", "cni", "flannel", "podman", "lxc")
"""Beginnings of the names of interfaces that lead to containers of this machine alone."""
LOOPBACK = "127."


@dataclass(frozen=True)
class Address:
    """One address of this machine."""

    interface: str
    host: str
    """IPv4."""


def network_addresses() -> tuple[Address, ...]:
    """Those that other machines may reach, what leads to containers last; empty without a network."""
    up = {name for name, found in psutil.net_if_stats().items() if found.isup}
    found = [
        Address(name, one.address)
        for name, addresses in psutil.net_if_addrs().items()
        for one in addresses
        if name in up and one.family == socket.AF_INET and not one.address.startswith(LOOPBACK)
    ]
    return tuple(sorted(found, key=lambda one: one.interface.startswith(INSIDE)))


def is_here(host: str) -> bool:
    """Whether `host` is an address of this machine, of IPv6 with or without brackets, or a name of one. Raises `OSError` for a name that nobody knows."""
    own = {one.address.partition("%")[0] for addresses in psutil.net_if_addrs().values() for one in addresses}
    return any(address in own or address.startswith(LOOPBACK) for address in _addresses_of(host.strip("[]")))


def is_port_free(port: int) -> bool:
    """Whether this machine can serve others at `port`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        # As the server of the meeting does: what an ended one left in TIME_WAIT is no hindrance, who listens is.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("", port))
            server.listen(1)
        except OSError:
            return False
    return True


def free_port(first: int, taken: Sequence[int] = (), tries: int = 100) -> int | None:
    """`first`, or the next one that is free and not among `taken`."""
    ports = range(first, min(first + tries, 65536))
    return next((port for port in ports if port not in taken and is_port_free(port)), None)


def _addresses_of(host: str) -> set[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a part of the name is longer than names can be
        raise OSError(None, str(error)) from error
    return {str(one[4][0]) for one in found}
