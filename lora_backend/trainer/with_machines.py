"""The agent of a run that several machines train: it meets the others before it starts anything, and ends as they do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.machines.company import Company, stopped_now
from lora_backend.machines.compared import facts_of
from lora_backend.machines.desk import MEET_WITHIN_S, Desk
from lora_backend.machines.guest import Joining
from lora_backend.machines.guest_session import GuestSession
from lora_backend.machines.host_session import HostSession
from lora_backend.machines.machine_messages import LastWord, Verdict
from lora_backend.machines.network import MachinesError, host_name
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.processes.peer_end import PeerFailedError
from lora_backend.runs.processes.run_session import said_of
from lora_backend.runs.processes.signals import StoppedNowError
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)


@contextmanager
def met(folder: RunStore, resolved: ResolvedConfig, within_s: float = MEET_WITHIN_S) -> Iterator[Company | None]:
    """The other machines of the run, when all are there and have what this one has; None where the run was stopped before, and
    its outcome says so. They hear of an error in the block.

    Raises `MachinesError` where they do not come together, our other errors where something is missing here.
    """
    attempt = folder.read_attempt()
    meeting = attempt.meeting
    if meeting is None:
        raise MachinesError(
            N_(
                "The run is for {count} machines but does not say where they meet. Start it with `flightdeck runs start --nodes {count}`."
            ),
            count=attempt.num_nodes,
        )
    company: Company | None = None
    if meeting.node == 0:
        with Desk(folder, meeting.endpoint, meeting.code, within_s) as desk:  # a port in use is known at once
            gathered = desk.gather(facts_of(resolved, attempt))
        company = HostSession(folder, *gathered) if gathered else None
    else:
        joined = Joining(folder, meeting.endpoint, meeting.code, within_s).join(facts_of(resolved, attempt))
        company = GuestSession(folder, *joined, meeting.node) if joined else None
    if company is None:
        with folder.changing_status() as status:
            status.attempt.outcome = "stopped"
        yield None
        return
    logger.info("all machines are there; the processes talk over %s", company.store.interface or "any network")
    with _telling(company, folder, resolved.installation, meeting.node):
        yield company


@contextmanager
def _telling(company: Company, folder: RunStore, installation: Installation, node: int) -> Iterator[None]:
    try:
        yield
    except StoppedNowError:
        company.leave(LastWord(failure=stopped_now(node, host_name())))
        raise
    except PeerFailedError:  # all know it
        raise
    except BaseException as error:
        company.leave(LastWord(failure=said_of(error, folder, installation, lambda _: None)))
        raise


def settled(folder: RunStore, verdict: Verdict) -> None:
    """End as the verdict says. Raises `PeerFailedError` with the failure of the process that failed first."""
    if verdict.outcome is None:
        assert verdict.failure is not None, "a run that has no outcome has failed"
        raise PeerFailedError(verdict.failure)
    with folder.changing_status() as status:
        left = status.attempt
        left.outcome, left.outcome_cause, left.outcome_message = verdict.outcome, verdict.cause, verdict.message
