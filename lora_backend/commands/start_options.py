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


def add_meeting(command: argparse.ArgumentParser) -> None:
    """Where several machines meet; `runs resume` takes it as well."""
    command.add_argument("--endpoint", metavar="HOST:PORT", help="of several machines: where the first one is reached. Default: its address on the network, and port 29500 or the next free one")  # fmt: skip
    command.add_argument("--code", help="of several machines: as the first one printed it")
