"""What this machine's network is like: the endpoint as it is written, addresses, ports, and which interface has an address."""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import suppress

import psutil

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_

MAX_WAITING = 64
"""Connections that the system holds until they are looked at."""
LOCALHOST = "localhost"


class MachinesError(FlightdeckError):
    """The machines of a run do not come together, or do not agree."""

    code = "machines"


def host_name() -> str:
    """What this machine calls itself."""
    return socket.gethostname() or "–"


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[address]:port`. Raises `MachinesError` for what is neither."""
    host, _, port = endpoint.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise MachinesError(
            N_("`{endpoint}` is not an address to meet at. Write it as HOST:PORT, with a port from 1 to 65535."),
            endpoint=endpoint,
        )
    return host, int(port)


def listen_at(endpoint: str) -> socket.socket:
    """Listen where the other machines look for this one. Raises `MachinesError` where that is not possible here."""
    host, port = split_endpoint(endpoint)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise unknown_host(host) from error
    if _is_name_of_loopback(
        host, str(address[0])
    ):  # as /etc/hosts often has it of one's own name: nobody else gets there
        family, address = socket.AF_INET, ("", port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(MAX_WAITING)
    except OSError as error:
        listener.close()
        raise _not_here(error, host, port) from error
    listener.setblocking(False)
    return listener


def unknown_host(host: str) -> MachinesError:
    """Its name means nothing here."""
    return MachinesError(
        N_("No machine is known by the name {host} here. Use the first machine's IP address instead."), host=host
    )


def _not_here(error: OSError, host: str, port: int) -> MachinesError:
    if error.errno == errno.EADDRINUSE:
        said = N_("Port {port} is in use on this machine. Choose another port, and use it on every machine.")
    elif error.errno == errno.EADDRNOTAVAIL:
        said = N_(
            "{host} is not an address of this machine. Use an address of the first machine, and start machine 1 only there."
        )
    elif error.errno == errno.EACCES:
        said = N_("You have no permission to open port {port}. Choose one from 1024 up, and use it on every machine.")
    else:
        said = N_("This machine cannot listen at {host}, port {port}: {reason}.")
    return MachinesError(said, host=host, port=port, reason=error.strerror or type(error).__name__)


def _is_name_of_loopback(host: str, address: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return False
    return host != LOCALHOST and ipaddress.ip_address(address.partition("%")[0]).is_loopback


def listen_anywhere(address: str) -> socket.socket:
    """Listen at `address`, which is one of this machine's, on a port that is free."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.bind((address, 0))
        listener.listen(MAX_WAITING)
    except OSError:
        listener.close()
        raise
    return listener


def free_port() -> int:
    """A port that nobody listens on, at whatever address of this machine."""
    with listen_anywhere("") as listener:  # nothing was accepted on it, so its port is free again at once
        return int(listener.getsockname()[1])


def interface_of(address: str) -> str | None:
    """The name of the network interface that has `address`; None where none has."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == address for one in addresses):
            return name
    return None
