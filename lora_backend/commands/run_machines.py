"""The processes and machines that train one run, in words for a terminal, and what to run on each machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend.commands.words import say
from lora_backend.i18n import N_
from lora_backend.runs.record.run_store import RunStore
from lora_backend.terminal import aligned
from lora_backend.views.machines_view import ShownMachine, config_name, machines_of, part_of
from lora_backend.views.peers_view import HEADS, shown_peers


def together_document(run: RunStore, network: Mapping[str, str]) -> dict[str, Any]:
    """For a script. `network`: variables by which this machine's processes find the others."""
    return {
        "peers": [peer.to_json() for peer in shown_peers(run)],
        "machines": [one.to_json() for one in machines_of(run, network)],
    }


def together_lines(run: RunStore, network: Mapping[str, str], *, has_ended: bool) -> list[str]:
    """A table of the processes; which part of several machines the run is, or what to run on those that have not come."""
    lines = []
    if peers := shown_peers(run):
        lines = aligned([[say(head) for head in HEADS.values()], *(peer.cells() for peer in peers)]).splitlines()
    if part := part_of(run.read_attempt()):
        return [*lines, str(part)]
    waiting = [] if has_ended else [one for one in machines_of(run, network) if not one.is_here]
    return [*lines, *machine_lines(run, waiting)]


def machine_lines(run: RunStore, machines: Sequence[ShownMachine]) -> list[str]:
    """What to run on each machine but the first; of a run that goes on also what to do where its folder is gone."""
    lines = []
    for one in machines:
        lines += ["", say(N_("On machine {number}, run:"), number=one.node + 1), f"  {one.command}"]
    for one in machines:
        if one.anew is not None:
            said = say(
                N_("If machine {number} has no folder for this run, copy {file} there as {name} and run this instead:"),
                number=one.node + 1,
                file=str(run.config_yaml),
                name=config_name(run),
            )
            lines += ["", said, f"  {one.anew}"]
    return lines
