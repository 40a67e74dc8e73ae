"""Where the machines of one run meet: settled on the first, named by the others, and refused beforehand where it cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lora_backend.errors import ConfigError, RunError
from lora_backend.hardware.addresses import Address, free_port, is_here, is_port_free, network_addresses
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.meetings import first_run_of, new_code
from lora_backend.runs.record.peer_documents import MachineMeeting
from lora_backend.runs.record.run_store import RunStore, list_runs, new_run_id

FIRST_PORT = 29500
"""The one that torchrun takes as well; the next free one where it is in use."""
_ENDPOINT = re.compile(
    r"(?P<host>[0-9A-Za-z](?:[0-9A-Za-z.-]{0,252}[0-9A-Za-z])?|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[0-9]{1,5})"
)


class MeetingError(RunError):
    """Machines cannot meet there."""


def meeting_here(installation: Installation, endpoint: str | None = None, first: str | None = None) -> MachineMeeting:
    """A meeting that this machine serves as the first. `endpoint`: default its own address and a free port; `first`: the
    id of its run, default a new one.

    Raises `ConfigError` for an endpoint that is none, `MeetingError` for one that is not of this machine, or in use.
    """
    if endpoint is None:
        endpoint = default_endpoint(installation.runs)
    host, port = endpoint_parts(endpoint)
    try:
        serves = is_here(host)
    except OSError as error:
        raise MeetingError(
            N_("No machine is known as {host} here ({reason}). Choose an address of this machine: {hosts}."),
            host=host,
            reason=error.strerror or str(error),
            hosts=_named(network_addresses()),
        ) from error
    if not serves:
        raise MeetingError(
            N_(
                "{host} is not an address of this machine, which is the first one and is reached by the others. Choose one of its own: {hosts}."
            ),
            host=host,
            hosts=_named(network_addresses()),
        )
    if not is_port_free(port):
        raise MeetingError(
            N_("Port {port} is in use on this machine. {free} is free."),
            port=port,
            free=default_endpoint(installation.runs, host),
        )
    return MachineMeeting(node=0, endpoint=f"{host}:{port}", code=new_code(first or new_run_id(installation.clock)))


def meeting_elsewhere(node: int, num_nodes: int, endpoint: str | None, code: str | None) -> MachineMeeting:
    """The meeting to which this machine goes, as the first has printed it.

    Raises `ConfigError` where something of it is missing, or is not what the first printed.
    """
    if not 0 < node < num_nodes:
        raise ConfigError(
            N_("`--node {node}` is out of range: the {nodes} machines are numbered from 0 to {last}."),
            node=node,
            nodes=num_nodes,
            last=num_nodes - 1,
        )
    if endpoint is None or code is None:
        raise ConfigError(
            N_("`--node {node}` needs `--endpoint` and `--code`. Use the command that the first machine printed."),
            node=node,
        )
    host, port = endpoint_parts(endpoint)
    if first_run_of(code) is None:
        raise ConfigError(N_("`--code {code}` is not what the first machine printed. Copy all of it."), code=code[:100])
    return MachineMeeting(node=node, endpoint=f"{host}:{port}", code=code)


def endpoint_parts(endpoint: str) -> tuple[str, int]:
    """Host, an address of IPv6 in its brackets, and port. Raises `ConfigError` for what is no endpoint."""
    found = _ENDPOINT.fullmatch(endpoint.strip())
    port = int(found["port"]) if found else 0
    if found is None or not 0 < port < 65536:
        raise ConfigError(
            N_(
                "`--endpoint {endpoint}` is not an endpoint. Write a name or an address and a port, as in 10.0.0.1:29500."
            ),
            endpoint=endpoint[:100],
        )
    return found["host"], port


def meeting_again(run: RunStore, installation: Installation, endpoint: str | None, code: str | None) -> MachineMeeting:
    """The meeting of a run that goes on: anew on the first machine, at the same endpoint unless another one is named; on
    the others where the first has printed it.

    Raises what `meeting_here` and `meeting_elsewhere` raise; `ConfigError` too for the code of another run.
    """
    before, num_nodes = run.read_attempt().meeting, run.read_attempt().num_nodes
    if before is None or before.node == 0:
        if code is not None:
            raise ConfigError(N_("`--code` is for the other machines; the first one makes a new code."))
        return meeting_here(installation, endpoint or (None if before is None else before.endpoint), run.id)
    found = meeting_elsewhere(before.node, num_nodes, endpoint, code)
    if first_run_of(found.code) != first_run_of(before.code):
        raise ConfigError(
            N_("`--code` belongs to run {other}, but {id} is another run. Copy the command from its own run."),
            other=first_run_of(found.code),
            id=run.id,
        )
    return found


def default_endpoint(runs: Path, host: str | None = None) -> str:
    """Of this machine: its address towards the network, or `host`, and the first free port that no run was promised.

    Raises `MeetingError` for a machine without a network, or without a free port.
    """
    addresses = network_addresses()
    if host is None and not addresses:
        raise MeetingError(
            N_(
                "This machine has no network address. Connect it to a network, or set an address with `--endpoint`, such as 10.0.0.1:29500."
            )
        )
    port = free_port(FIRST_PORT, promised_ports(runs))
    if port is None:
        raise MeetingError(
            N_("No port from {port} up is free on this machine. Set one with `--endpoint`."), port=FIRST_PORT
        )
    return f"{host or addresses[0].host}:{port}"


def promised_ports(runs: Path) -> list[int]:
    """Ports at which runs here will serve other machines that have not ended yet."""
    found = [run.read_attempt().meeting for run in list_runs(runs) if not run.exit_json.exists()]
    served = [meeting.endpoint for meeting in found if meeting is not None and meeting.node == 0]
    return [int(port) for port in (endpoint.rpartition(":")[2] for endpoint in served) if port.isdecimal()]


def refuse_without_meeting(num_nodes: int, meeting: MachineMeeting | None) -> None:
    """Raise `ConfigError` where several machines shall train and nobody said where they meet."""
    if num_nodes > 1 and meeting is None:
        raise ConfigError(
            N_(
                "`num_nodes` is {nodes}. Start such a run with `flightdeck runs start CONFIG`, which prints the command for each machine, or remove `num_nodes`."
            ),
            nodes=num_nodes,
        )


def settled_for_all(attempt: Attempt | None) -> dict[str, Any]:
    """Keys that have the same value on all machines of a run, whatever GPUs each of them has; none of one machine."""
    if attempt is None or attempt.meeting is None or attempt.strategy is None:
        return {}
    return {"strategy": attempt.strategy, "num_processes": attempt.num_processes}


def _named(addresses: Iterable[Address]) -> str:
    return ", ".join(f"{one.host} ({one.interface})" for one in addresses) or "–"
