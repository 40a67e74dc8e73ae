"""A trainer that no launcher started takes its devices' leases itself, so that queued runs wait for it as for any other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lora_backend.installation import Installation
from lora_backend.runs.processes.lease_requests import wait_for_chats
from lora_backend.runs.processes.leases import Lease, holders, lease_keys, release, take
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)


@contextmanager
def leased(folder: RunStore, installation: Installation, *, for_peers: bool = False) -> Iterator[list[Lease]]:
    """Hold what the run's newest attempt leases while the block trains; under a supervisor that holds it, do nothing.
    Of several processes the one that starts them holds it `for_peers`, and they do nothing.

    A person at a terminal is not kept waiting: where another run has a device this one goes beside it, and says so. Only
    a model that is tried out is given the seconds that it takes to leave.
    """
    is_held = installation.is_supervised or (not for_peers and folder.read_attempt().num_peers > 1)
    leases = [] if is_held else _take(folder, installation)
    try:
        yield leases
    finally:
        release(leases)


def _take(folder: RunStore, installation: Installation) -> list[Lease]:
    place, keys = installation.leases, lease_keys(folder.read_attempt())
    try:
        wait_for_chats(place, keys, folder.path)
        leases = take(place, keys, folder.path, clock=folder.clock)
        if leases is None:
            others = ", ".join(sorted({holder.run for holder in holders(place, keys)}))
            logger.warning("%s in use by run %s; this one trains beside it", ", ".join(keys), others)
            leases = take(place, keys, folder.path, anyway=True, clock=folder.clock)
    except OSError as error:
        logger.warning(
            "no lease can be taken in %s (%s); queued runs will not wait for this one", place, error.strerror
        )
        return []
    return leases or []
