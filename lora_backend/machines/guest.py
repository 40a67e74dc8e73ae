"""Another machine than the first: it goes to where they meet, says what it has, and hears whether the run begins."""

from __future__ import annotations

import logging
import socket
import time
from dataclasses import dataclass, field

from lora_backend.i18n import N_, Message
from lora_backend.machines.compared import MachineFacts
from lora_backend.machines.desk import MEET_WITHIN_S, TICK_S
from lora_backend.machines.doorbell import Doorbell, unreached
from lora_backend.machines.machine_messages import (
    FROM_THE_FIRST,
    Go,
    Hello,
    Meet,
    Progress,
    Reached,
    Refused,
    Verdict,
)
from lora_backend.machines.network import MachinesError, split_endpoint, unknown_host
from lora_backend.machines.shared_status import doing_here, say_waiting, stop_waiting, take_progress
from lora_backend.machines.wire import Wire
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)
CALL_WITHIN_S = 2.0
CALL_AGAIN_S = 0.5


@dataclass
class Joining:
    """The way of one machine to the others."""

    folder: RunStore
    endpoint: str
    code: str = field(repr=False)
    within_s: float = MEET_WITHIN_S

    def join(self, facts: MachineFacts) -> tuple[Wire, Go] | None:
        """The connection to the first machine, when all are there and the run begins. None where a stop was asked for before,
        here or there. Raises `MachinesError` with what stands in the way."""
        self._deadline, self._facts = time.monotonic() + self.within_s, facts
        logger.info("going to machine 1 at %s", self.endpoint)
        while True:
            wire = self._called()
            if wire is None:
                return None
            try:
                bell = Doorbell(wire.own_address, facts.node)
                try:
                    found = self._agreed(wire, bell)
                finally:
                    bell.close()
            except BaseException:
                wire.close()
                raise
            if isinstance(found, Go):
                stop_waiting(self.folder)
                return wire, found
            wire.close()
            if found is not None:
                return None
            logger.warning("machine 1 has left (%s): calling it again", wire.lost)
            time.sleep(CALL_AGAIN_S)

    def _called(self) -> Wire | None:
        """Machine 1, as soon as it answers. None where a stop was asked for before."""
        host, port = split_endpoint(self.endpoint)
        say_waiting(self.folder, Message(N_("Waiting for machine 1 at {endpoint}"), {"endpoint": self.endpoint}))
        while not self.folder.stop_request.exists():
            try:
                return Wire(socket.create_connection((host, port), CALL_WITHIN_S), FROM_THE_FIRST)
            except socket.gaierror as error:
                raise unknown_host(host) from error
            except OSError as error:
                reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
                if time.monotonic() >= self._deadline:
                    raise MachinesError(
                        N_(
                            "Machine 1 did not answer at {endpoint} within {minutes} min: {reason}. Check that its run was started, and that its firewall allows port {port}."
                        ),
                        endpoint=self.endpoint,
                        minutes=max(1, round(self.within_s / 60)),
                        reason=reason,
                        port=port,
                    ) from error
            time.sleep(CALL_AGAIN_S)
        return None

    def _agreed(self, wire: Wire, bell: Doorbell) -> Go | Verdict | None:
        """What the first machine says at last; None where the connection was lost. Raises `MachinesError` where it sends this
        one away."""
        wire.send(Hello(code=self.code, facts=self._facts, address=wire.own_address, port=bell.place.port))
        is_stopping = False
        while True:
            for said in wire.receive():
                if isinstance(said, Refused):
                    raise MachinesError(said.message.template, **said.message.values)
                if isinstance(said, Go | Verdict):
                    return said
                if isinstance(said, Progress):
                    take_progress(self.folder, said, self._facts.node)
                if isinstance(said, Meet):
                    wire.send(Reached(failed=unreached(said.machines, own=self._facts.node)))
            if wire.lost is not None:
                return None
            if self.folder.stop_request.exists() and not is_stopping:
                is_stopping = True
                wire.send(doing_here(self.folder, self._facts.node))  # the first ends it on all machines
            if wire.is_heartbeat_due:
                wire.send(doing_here(self.folder, self._facts.node))
            time.sleep(TICK_S)
