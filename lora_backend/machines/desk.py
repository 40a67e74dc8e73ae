"""Where the machines of a run meet: the first one serves it, before anything is loaded.

Each of the others says what it has. What differs ends the run on all of them, in one sentence; what concerns one machine
alone (a wrong code, a number that another one has) is said to that one, and the first waits on.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_, Message
from lora_backend.machines.compared import MachineFacts, difference
from lora_backend.machines.doorbell import Doorbell, cannot_reach, unreached
from lora_backend.machines.machine_messages import (
    TO_THE_FIRST,
    Doing,
    Go,
    Hello,
    LastWord,
    Meet,
    Place,
    Reached,
    Refused,
    Verdict,
)
from lora_backend.machines.network import MachinesError, free_port, listen_at
from lora_backend.machines.shared_status import progress_here, say_waiting, stop_waiting, take_stop
from lora_backend.machines.wire import Wire
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)
MEET_WITHIN_S = 900.0
"""How long machines wait for one another."""
REACH_WITHIN_S = 60.0
HELLO_WITHIN_S = 10.0
"""Whoever has said nothing for so long is none of ours."""
MOST_STRANGERS = 64
TICK_S = 0.1


@dataclass
class Guest:
    """Another machine, as the first one knows it."""

    wire: Wire
    facts: MachineFacts
    place: Place
    has_tried: bool = False
    """Whether it has tried to reach the others."""
    word: LastWord | None = None
    """Its last."""
    fell_at: float = 0.0
    """When what its last word is about happened, by this machine's `time.monotonic`."""

    @property
    def ranks(self) -> range:
        """Of its processes."""
        return range(self.facts.node * self.facts.num_processes, (self.facts.node + 1) * self.facts.num_processes)


@dataclass
class Desk:
    """A context in which the first machine listens; the guests that it gathers stay connected behind it."""

    folder: RunStore
    endpoint: str
    code: str = field(repr=False)
    within_s: float = MEET_WITHIN_S

    def __enter__(self) -> Desk:
        """Raises `MachinesError` where nobody can listen at the endpoint here."""
        self._listener = listen_at(self.endpoint)
        self._strangers: list[tuple[Wire, float]] = []
        self._guests: dict[int, Guest] = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        if error is not None:
            self._end(Refused(message=error.message) if isinstance(error, FlightdeckError) else None)
        for wire, _ in self._strangers:  # a guest that came just now is among them
            wire.close()

    def gather(self, facts: MachineFacts) -> tuple[list[Guest], Go] | None:
        """All other machines, by their numbers, when each has what this one has (`facts`) and reaches the others. None where a
        stop was asked for before. Raises `MachinesError` with what stands in the way, which the others are told as well."""
        deadline = time.monotonic() + self.within_s
        logger.info("waiting at %s for %s other machines", self.endpoint, facts.num_nodes - 1)
        while missing := sorted({*range(1, facts.num_nodes)} - self._guests.keys()):
            if self._is_stopped():
                return None
            if time.monotonic() >= deadline:
                raise _never_came(missing, self.endpoint, self.within_s)
            is_new = say_waiting(self.folder, _waiting_for(missing, facts.num_nodes, self.endpoint))
            self._accept()
            self._hear_strangers(facts)
            self._hear_guests(tell=is_new)
            time.sleep(TICK_S)
        go = self._try_ways()
        if go is None:
            return None
        stop_waiting(self.folder)
        for guest in self._guests.values():
            guest.wire.send(go)
        return [self._guests[node] for node in sorted(self._guests)], go

    def _is_stopped(self) -> bool:
        if not self.folder.stop_request.exists():
            return False
        self._end(Verdict(outcome="stopped"))
        return True

    def _end(self, last: Refused | Verdict | None) -> None:
        for guest in self._guests.values():
            if last is not None:
                if isinstance(last, Verdict):
                    guest.wire.send(progress_here(self.folder, has_failed=False))  # with who asked for the stop
                guest.wire.send(last)
            guest.wire.close()
        self._guests = {}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody more
                return
            with suppress(OSError):  # gone already
                self._strangers.append((Wire(connection, TO_THE_FIRST), time.monotonic()))
            for wire, _ in self._strangers[:-MOST_STRANGERS]:
                wire.close()
            self._strangers = self._strangers[-MOST_STRANGERS:]

    def _hear_strangers(self, facts: MachineFacts) -> None:
        left = []
        for wire, came_at in self._strangers:
            said = wire.receive()
            if said and isinstance(said[0], Hello):
                self._meet(wire, said[0], facts)
            elif wire.is_bad:
                logger.warning("%s said nothing that this version knows", wire.peer_address)
                wire.close()
            elif said or wire.lost or time.monotonic() - came_at > HELLO_WITHIN_S:
                wire.close()
            else:
                left.append((wire, came_at))
        self._strangers = left

    def _meet(self, wire: Wire, hello: Hello, facts: MachineFacts) -> None:
        """Take another machine in, or say to it alone why not. Raises `MachinesError` for what concerns both."""
        theirs = hello.facts
        if not hmac.compare_digest(*(code.encode("utf-8", "surrogatepass") for code in (hello.code, self.code))):
            self._send_away(wire, Message(N_("The run waiting at {endpoint} has another code. Copy the command for this machine again from the first machine."), {"endpoint": self.endpoint}))  # fmt: skip
            return
        present = self._guests.get(theirs.node)
        if theirs.node == 0 or (present is not None and present.wire.lost is None):
            host = facts.host if present is None else present.facts.host
            self._send_away(wire, Message(N_("Another machine ({host}) has `--node {node}` already. Give each machine a number of its own, from 0 on."), {"host": host, "node": theirs.node}))  # fmt: skip
            return
        if theirs.node >= facts.num_nodes == theirs.num_nodes:
            self._send_away(wire, Message(N_("Of {all} machines none is `--node {node}`: numbers go from 0 to {last}."), {"all": facts.num_nodes, "node": theirs.node, "last": facts.num_nodes - 1}))  # fmt: skip
            return
        place = Place(node=theirs.node, address=hello.address, port=hello.port)
        self._guests[theirs.node] = Guest(wire, theirs, place)  # so that it hears of a difference too
        logger.info("machine %s (%s, %s) is there", theirs.node + 1, theirs.host, hello.address)
        if (found := difference(facts, theirs)) is not None:
            raise MachinesError(found.template, **found.values)

    def _send_away(self, wire: Wire, said: Message) -> None:
        logger.warning("%s is sent away: %s", wire.peer_address, said.text("en"))
        wire.send(Refused(message=said))
        wire.close()

    def _hear_guests(self, *, tell: bool = False) -> None:
        for node, guest in list(self._guests.items()):
            for said in guest.wire.receive():
                if isinstance(said, Doing) and said.stop is not None:
                    take_stop(self.folder, said.stop)
                if isinstance(said, Reached):
                    guest.has_tried = True
                    for found in said.failed:
                        raise cannot_reach(guest.place, found)
            if guest.wire.lost is not None:
                logger.warning("machine %s (%s) has left again: %s", node + 1, guest.facts.host, guest.wire.lost)
                del self._guests[node]
            elif tell or guest.wire.is_heartbeat_due:
                guest.wire.send(progress_here(self.folder, has_failed=False))

    def _try_ways(self) -> Go | None:
        """Have every machine call every other one. None where a stop was asked for meanwhile."""
        address = next(iter(self._guests.values())).wire.own_address
        bell = Doorbell(address, 0)
        try:
            places = [bell.place, *(guest.place for guest in self._guests.values())]
            for guest in self._guests.values():
                guest.wire.send(Meet(machines=places))
            for found in unreached(places, own=0):
                raise cannot_reach(bell.place, found)
            self._wait_for_the_others()
        finally:
            bell.close()
        if self._is_stopped():
            return None
        return Go(address=address, port=free_port(), run_id=secrets.token_hex(8))

    def _wait_for_the_others(self) -> None:
        guests, deadline = dict(self._guests), time.monotonic() + REACH_WITHIN_S
        while not all(guest.has_tried for guest in guests.values()) and not self.folder.stop_request.exists():
            self._hear_guests()
            gone = _named(guests, sorted(guests.keys() - self._guests.keys()))
            slow = _named(guests, [node for node, guest in guests.items() if not guest.has_tried])
            if gone or time.monotonic() >= deadline:
                raise MachinesError(N_("Machine {machine} left before the run began. See its log, then start all machines again."), machine=gone or slow)  # fmt: skip
            time.sleep(TICK_S)


def _named(guests: Mapping[int, Guest], nodes: list[int]) -> str:
    return ", ".join(f"{node + 1} ({guests[node].facts.host})" for node in nodes)


def _numbers(nodes: list[int]) -> str:
    return ", ".join(str(node + 1) for node in nodes)


def _waiting_for(missing: list[int], num_nodes: int, endpoint: str) -> Message:
    values = {"numbers": _numbers(missing), "all": num_nodes, "endpoint": endpoint}
    return Message(N_("Waiting for machine {numbers} of {all} at {endpoint}"), values)


def _never_came(missing: list[int], endpoint: str, within_s: float) -> MachinesError:
    return MachinesError(
        N_(
            "Not all machines reached {endpoint} within {minutes} min; missing: {numbers}. Check their logs: the run was not started there, or the machine cannot reach this one on that port."
        ),
        numbers=_numbers(missing),
        endpoint=endpoint,
        minutes=max(1, round(within_s / 60)),
    )
