"""Whether machines can really reach one another: each listens on a port that the system chose, as torch will, and the others call."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from lora_backend.i18n import N_
from lora_backend.machines.machine_messages import Place, Unreached
from lora_backend.machines.network import MachinesError, listen_anywhere

CALL_WITHIN_S = 5.0
MOST_CALLS = 32
"""At a time."""


class Doorbell:
    """Answers whoever calls at `address`, with the number of this machine, while the block goes on."""

    def __init__(self, address: str, node: int) -> None:
        self._listener = listen_anywhere(address)
        self._word = _word(node)
        self.place = Place(node=node, address=address, port=self._listener.getsockname()[1])
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:  # closed
                return
            with caller, suppress(OSError):
                caller.settimeout(CALL_WITHIN_S)
                caller.sendall(self._word)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _word(node: int) -> bytes:
    return f"machine {node}\n".encode()


def unreached(places: Sequence[Place], own: int) -> list[Unreached]:
    """Of machines but `own` those that do not answer from here."""
    others = [place for place in places if place.node != own]
    if not others:
        return []
    with ThreadPoolExecutor(min(len(others), MOST_CALLS)) as calls:
        reasons = list(calls.map(_why_not, others))
    return [Unreached(place=place, reason=why) for place, why in zip(others, reasons, strict=True) if why is not None]


def _why_not(place: Place) -> str | None:
    expected = _word(place.node)
    try:
        with (
            socket.create_connection((place.address, place.port), CALL_WITHIN_S) as connection,
            connection.makefile("rb") as file,
        ):
            answer = file.readline(len(expected))
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return error.strerror or type(error).__name__
    return None if answer == expected else "another program answered"


def cannot_reach(caller: Place, found: Unreached) -> MachinesError:
    """`caller` cannot reach the machine that it found silent."""
    return MachinesError(
        N_(
            "Machine {number} ({address}) cannot reach machine {other} ({its_address}) on port {port}: {reason}. Open the firewall between them for all ports, or give an endpoint on a network that they share."
        ),
        number=caller.node + 1,
        address=caller.address,
        other=found.place.node + 1,
        its_address=found.place.address,
        port=found.place.port,
        reason=found.reason,
    )
