"""The words with which a run is started, and those for several machines."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_start(command: argparse.ArgumentParser) -> None:
    """`runs start`."""
    command.add_argument("config", type=Path)
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key; repeatable")
    command.add_argument("--name", help="of the run")
    command.add_argument("--tag", action="append", default=[], help="of the run; repeatable")
    command.add_argument("--shares", action="store_true", help="beside other runs on the same devices, without waiting")
    command.add_argument("--nodes", type=int, metavar="COUNT", help="machines that train together; default: the config's `num_nodes`")  # fmt: skip
    command.add_argument("--node", type=int, metavar="NUMBER", help="this machine, from 0; default: 0, the first, which prints the commands for the others")  # fmt: skip
    add_meeting(command)
    add_cluster(command, ["slurm", "ray"], "a cluster that trains it; default: this machine")


def add_cluster(command: argparse.ArgumentParser, choices: list[str], meaning: str) -> None:
    """Where a run trains, if not on this machine; `runs resume` takes it as well."""
    command.add_argument("--on", choices=choices, help=meaning)
    command.add_argument("--address", metavar="URL", help="of Ray's dashboard; default: RAY_API_SERVER_ADDRESS")
    command.add_argument("--cluster", action="append", default=[], metavar="KEY=VALUE", help="what its job asks for; repeatable. Slurm: partition, gpus_per_node, cpus_per_task, mem_gb, timeout_min …; Ray: num_gpus, num_cpus, memory_gb")  # fmt: skip


def add_meeting(command: argparse.ArgumentParser) -> None:
    """Where several machines meet; `runs resume` takes it as well."""
    command.add_argument("--endpoint", metavar="HOST:PORT", help="of several machines: where the first one is reached. Default: its address on the network, and port 29500 or the next free one")  # fmt: skip
    command.add_argument("--code", help="of several machines: as the first one printed it")
