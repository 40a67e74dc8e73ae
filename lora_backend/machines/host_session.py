"""The first machine while the run trains: it shows the processes of all machines, and says how the run ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from lora_backend.atomic import write_json
from lora_backend.machines.company import LOST_FOLLOWS, Company, Store, lost
from lora_backend.machines.desk import TICK_S, Guest
from lora_backend.machines.machine_messages import Doing, Go, LastWord, Progress, Verdict
from lora_backend.machines.network import interface_of
from lora_backend.machines.shared_status import progress_here, take_peers, take_stop
from lora_backend.runs.record.documents import SaveRequest
from lora_backend.runs.record.failures import PEER_LOST
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)
TELL_EVERY_S = 0.5
SETTLE_WITHIN_S = 60.0
"""How long the processes of the other machines may take to end behind those of this one."""


class HostSession(Company):
    """The other machines, as the first sees them."""

    def __init__(self, folder: RunStore, guests: Sequence[Guest], go: Go) -> None:
        self.store = Store(go.address, go.port, go.run_id, interface_of(go.address))
        self._folder, self._guests = folder, guests
        self._told: Progress | None = None
        self._told_at = 0.0

    def tick(self, *, has_failed: bool) -> None:
        for guest in self._guests:
            if guest.word is None:
                self._hear(guest)
        self._tell(has_failed=has_failed or self.has_fallen)

    def _hear(self, guest: Guest) -> None:
        for said in guest.wire.receive():
            if isinstance(said, Doing):
                self._take(guest, said)
            elif isinstance(said, LastWord):
                guest.word, guest.fell_at = said, time.monotonic() - said.age_s
                self.has_fallen = self.has_fallen or said.failure is not None
        if guest.wire.lost is not None and guest.word is None:
            self._miss(guest, guest.wire.lost)

    def _miss(self, guest: Guest, why: str) -> None:
        logger.warning("machine %s (%s) is gone: %s", guest.facts.node + 1, guest.facts.host, why)
        gone = lost(guest.facts.node, guest.facts.host, why)
        guest.word, guest.fell_at = LastWord(failure=gone, follows=LOST_FOLLOWS), time.monotonic()
        self.has_fallen = True

    def _take(self, guest: Guest, said: Doing) -> None:
        take_peers(self._folder, said.peers, guest.facts.node, guest.ranks)
        if said.stop is not None:
            take_stop(self._folder, said.stop)
        if said.wants_save and not self._folder.save_request.exists():
            write_json(self._folder.save_request, SaveRequest(time=self._folder.clock()).to_json())
        # One that lost the connection to another says so a moment before what it lost is known.
        has_failed = any(peer.failure is not None and peer.failure.cause != PEER_LOST for peer in said.peers)
        self.has_fallen = self.has_fallen or has_failed

    def _tell(self, *, has_failed: bool) -> None:
        progress, now = progress_here(self._folder, has_failed=has_failed), time.monotonic()
        is_urgent = self._told is None or (self._told.has_failed, self._told.stop) != (has_failed, progress.stop)
        is_new = progress != self._told and now - self._told_at >= TELL_EVERY_S
        if is_urgent or is_new:
            self._told, self._told_at = progress, now
        for guest in self._guests:
            if is_urgent or is_new or guest.wire.is_heartbeat_due:
                guest.wire.send(progress)

    def settle(self, word: LastWord) -> Verdict:
        fell_at = time.monotonic() - word.age_s
        deadline = time.monotonic() + SETTLE_WITHIN_S
        while any(guest.word is None for guest in self._guests) and time.monotonic() < deadline:
            self.tick(has_failed=word.failure is not None)
            time.sleep(TICK_S)
        for guest in self._guests:
            if guest.word is None:
                self._miss(guest, f"its processes did not end within {SETTLE_WITHIN_S:g} s")
        verdict = self._verdict(word, fell_at)
        self._say(verdict)
        return verdict

    def _verdict(self, word: LastWord, fell_at: float) -> Verdict:
        """As the first process has said that it ended; else with the failure that is likest the cause of the others."""
        said = self._folder.read_status().attempt
        if said.outcome is not None:
            return Verdict(outcome=said.outcome, cause=said.outcome_cause, message=said.outcome_message)
        words = [(word, fell_at), *((guest.word, guest.fell_at) for guest in self._guests if guest.word is not None)]
        fallen = [(one.follows, when, one.failure) for one, when in words if one.failure is not None]
        return Verdict(failure=min(fallen, key=lambda one: one[:2])[2] if fallen else None)

    def leave(self, word: LastWord) -> None:
        self._say(Verdict(failure=word.failure))

    def _say(self, verdict: Verdict) -> None:
        for guest in self._guests:
            guest.wire.send(progress_here(self._folder, has_failed=verdict.outcome is None))
            guest.wire.send(verdict)
        for guest in self._guests:
            guest.wire.close()
