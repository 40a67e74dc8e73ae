"""Another machine than the first while the run trains: it says how its processes are, and shows how the run stands."""

from __future__ import annotations

import logging
import time

from lora_backend.machines.company import LOST_FOLLOWS, Company, Store, lost
from lora_backend.machines.desk import TICK_S
from lora_backend.machines.machine_messages import Doing, Go, LastWord, Progress, Verdict
from lora_backend.machines.network import interface_of
from lora_backend.machines.shared_status import doing_here, take_progress
from lora_backend.machines.wire import Wire
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)


class GuestSession(Company):
    """The first machine, as another one sees it; through it all others."""

    def __init__(self, folder: RunStore, wire: Wire, go: Go, node: int) -> None:
        self.store = Store(go.address, go.port, go.run_id, interface_of(wire.own_address))
        self._folder, self._wire, self._node = folder, wire, node
        self._said: Doing | None = None
        self._verdict: Verdict | None = None

    def tick(self, *, has_failed: bool) -> None:
        newest: Progress | None = None
        for said in self._wire.receive():
            if isinstance(said, Progress):
                newest = said
            elif isinstance(said, Verdict):
                self._verdict = said
        if newest is not None:
            take_progress(self._folder, newest, self._node)
        is_failing = (newest is not None and newest.has_failed) or (self._verdict is not None and self._verdict.outcome is None)  # fmt: skip
        if is_failing or (self._wire.lost is not None and self._verdict is None):
            if not self.has_fallen:
                logger.warning("ending: %s", self._wire.lost or "a process of another machine failed")
            self.has_fallen = True
        self._tell()

    def _tell(self) -> None:
        doing = doing_here(self._folder, self._node)
        if doing != self._said or self._wire.is_heartbeat_due:
            self._said = doing
            self._wire.send(doing)
        if doing.wants_save:
            self._folder.answer_save_request()  # the first machine saves, and has one of its own now

    def settle(self, word: LastWord) -> Verdict:
        self._tell()
        self._wire.send(word)
        while self._verdict is None and self._wire.lost is None:
            self.tick(has_failed=word.failure is not None)
            time.sleep(TICK_S)
        verdict = self._verdict
        if verdict is None:
            gone = lost(0, self._wire.peer_address, self._wire.lost or "")
            is_own = word.failure is not None and word.follows < LOST_FOLLOWS
            verdict = Verdict(failure=word.failure if is_own else gone)
        self._wire.close()
        return verdict

    def leave(self, word: LastWord) -> None:
        self._wire.send(word)
        self._wire.close()
