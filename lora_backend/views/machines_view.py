"""The machines that train one run: the command for each, and how each is doing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.config.config_writing import setting_of
from lora_backend.i18n import N_, Message
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.meetings import first_run_of, run_id_on
from lora_backend.runs.record.peer_documents import MachineMeeting
from lora_backend.runs.record.run_store import RunStore

PROGRAM = "flightdeck"
WAITS, IS_HERE = N_("waiting"), N_("connected")


@dataclass(frozen=True)
class ShownMachine:
    """One of the machines."""

    node: int
    """From 0."""
    host: str | None
    """What it calls itself; None before it has come."""
    command: str | None
    """What starts its part; None for the first, which runs already."""

    @property
    def state(self) -> str:
        """One of `WAITS`, `IS_HERE`."""
        return WAITS if self.host is None else IS_HERE


def start_command(
    config: str, attempt: Attempt, node: int, changes: Mapping[str, Any], environment: Mapping[str, str]
) -> str:
    """What starts the part of the machine `node`. `config`: the file there; `changes`: keys that are other ones than it
    says; `environment`: variables by which this machine's processes find the network."""
    meeting = _meeting(attempt)
    words = ["runs", "start", config, "--nodes", str(attempt.num_nodes), "--node", str(node)]
    words += ["--endpoint", meeting.endpoint, "--code", meeting.code, *_settings(changes)]
    return _line(words, environment)


def resume_command(attempt: Attempt, node: int, environment: Mapping[str, str]) -> str:
    """What lets the part of the machine `node` go on, in the folder that it has there."""
    meeting = _meeting(attempt)
    words = ["runs", "resume", run_id_on(node, first_run_of(meeting.code) or ""), "--endpoint", meeting.endpoint]
    return _line([*words, "--code", meeting.code, *_settings(attempt.changes)], environment)


def machines_of(
    run: RunStore, environment: Mapping[str, str], config: str | None = None, changes: Mapping[str, Any] | None = None
) -> list[ShownMachine]:
    """Those of the newest start, on the first of them; none where one machine trains. `config`: the file that the others
    start with, and `changes` what is not as it says; None: they go on in the folders that they have."""
    attempt = run.read_attempt()
    if attempt.meeting is None or attempt.meeting.node != 0:
        return []
    hosts = {peer.node: peer.host for peer in run.read_status().attempt.peers}

    def command(node: int) -> str | None:
        if node == 0:
            return None
        if config is None:
            return resume_command(attempt, node, environment)
        return start_command(config, attempt, node, changes or {}, environment)

    return [ShownMachine(node, hosts.get(node), command(node)) for node in range(attempt.num_nodes)]


def commands_of(machines: Sequence[ShownMachine]) -> list[str]:
    """The commands of all but the first."""
    return [one.command for one in machines if one.command is not None]


def part_of(attempt: Attempt) -> Message | None:
    """On another machine than the first: which it is, and where the results are."""
    meeting = attempt.meeting
    if meeting is None or meeting.node == 0:
        return None
    return Message(
        N_("Machine {number} of {count}. The run's results are on the first machine, {endpoint} (run {id})."),
        {
            "number": meeting.node + 1,
            "count": attempt.num_nodes,
            "endpoint": meeting.endpoint,
            "id": first_run_of(meeting.code) or "–",
        },
    )


def _meeting(attempt: Attempt) -> MachineMeeting:
    assert attempt.meeting is not None, "of several machines alone"
    return attempt.meeting


def _settings(changes: Mapping[str, Any]) -> list[str]:
    return [word for key, value in changes.items() for word in ("--set", setting_of(key, value))]


def _line(words: Sequence[str], environment: Mapping[str, str]) -> str:
    before = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join([*before, shlex.join([PROGRAM, *words])])
