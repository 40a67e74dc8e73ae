"""The machines that train one run: the command for each, and how each is doing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.config.config_writing import setting_of
from lora_backend.i18n import N_, Message
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import AttemptStatus
from lora_backend.runs.record.meetings import first_run_of, run_id_on
from lora_backend.runs.record.peer_documents import MachineMeeting
from lora_backend.runs.record.run_store import RunStore

PROGRAM = "flightdeck"
MEETING = "meeting"
"""The stage in which the first machine waits for the others."""


@dataclass(frozen=True)
class ShownMachine:
    """One of the machines but the first."""

    node: int
    """From 0."""
    is_here: bool
    """Whether it has come."""
    host: str | None
    """What it calls itself, once its processes have begun."""
    command: str
    """What starts its part, or lets it go on in the folder that it has there."""
    anew: str | None
    """Of a run that goes on: what starts its part where that folder is gone, or never was."""

    @property
    def title(self) -> Message:
        """Which it is, and whether it has come."""
        if not self.is_here:
            return Message(N_("Machine {number}: waiting"), {"number": self.node + 1})
        if self.host is None:
            return Message(N_("Machine {number}: connected"), {"number": self.node + 1})
        return Message(N_("Machine {number}: connected ({host})"), {"number": self.node + 1, "host": self.host})

    def to_json(self) -> dict[str, Any]:
        """For a script."""
        return {name: getattr(self, name) for name in ("node", "is_here", "host", "command", "anew")}


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
    """Those of the newest start but the first, which is this one; none where one machine trains, or on another machine.

    `config`: the file that the others start with, and `changes` what is not as it says; by default the run's own file,
    under the name that `config_name` gives it.
    """
    attempt = run.read_attempt()
    if attempt.meeting is None or attempt.meeting.node != 0:
        return []
    status = run.read_status().attempt
    hosts, missing = {peer.node: peer.host for peer in status.peers}, _missing(status, attempt.num_nodes)
    before = {key: value for one in run.read_attempts() for key, value in one.changes.items()}
    changed = {key: value for key, value in (before | dict(changes or {})).items() if key != "num_nodes"}

    def shown(node: int) -> ShownMachine:
        begins = start_command(config or config_name(run), attempt, node, changed, environment)
        is_first_start = attempt.number < 2
        now = begins if is_first_start else resume_command(attempt, node, environment)
        is_here = node in hosts or node not in missing
        return ShownMachine(node, is_here, hosts.get(node), now, None if is_first_start else begins)

    return [shown(node) for node in range(1, attempt.num_nodes)]


def _missing(status: AttemptStatus, num_nodes: int) -> set[int]:
    """Those that have not come yet: the first machine says for whom it waits, and then what it is at."""
    if status.stage == MEETING and status.detail is not None and "numbers" in status.detail.values:
        return {int(number) - 1 for number in re.findall(r"[0-9]{1,4}", str(status.detail.values["numbers"]))}
    return set(range(num_nodes)) if status.stage in (None, MEETING) else set()


def config_name(run: RunStore) -> str:
    """Under which name the run's config is taken to other machines."""
    return f"{run.id}.yaml"


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
