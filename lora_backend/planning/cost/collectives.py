"""How long several processes take to sum or gather tensors: bytes over the slowest link of a ring.

A ring over N devices sends 2 (N − 1) / N of the bytes through each link to sum them (all-reduce), and (N − 1) / N to gather
them (all-gather): Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009; NCCL's own
tests count so (`nccl-tests`, doc/PERFORMANCE.md). Rates are the makers' or NVML's, the shares of them that are reached are
assumptions, and so is everything about networks. No GPU link was measured here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_backend.planning.cost.step_time import DEFAULT_LINK_BYTES_PER_S, HOP_S, LINK_SHARE, LinkSpeed, Range, Seconds
from lora_backend.planning.targets import Target

NETWORK_BYTES_PER_S: Range = (1.25e9, 25e9)
"""Between machines: 10 Gbit/s Ethernet to 200 Gbit/s InfiniBand. An assumption."""
HOST_BYTES_PER_S: Range = (0.05e9, 2e9)
"""Between processes of one machine that compute on its CPU, by gloo: around what was measured beside much other work (docs/times.md)."""
BRIDGED_BYTES_PER_S = {
    "RTX-2080-Ti": 50e9, "Titan-RTX": 50e9, "RTX-6000-Turing": 50e9, "RTX-8000-Turing": 50e9, "RTX-3090": 56.25e9,
    "RTX-3090-Ti": 56.25e9, "RTX-A4500": 56.25e9, "RTX-A5000": 56.25e9, "RTX-A6000": 56.25e9, "A30": 100e9, "A40": 56.25e9,
    "A100-80G-PCIe": 300e9, "H100-80G-PCIe": 300e9, "H100-94G-NVL": 300e9, "H200-141G-NVL": 450e9,
}  # fmt: skip
"""NVLink of one card, one way, where a bridge joins two or four of them: half of the total on its maker's page."""
ON_BOARD_BYTES_PER_S = {
    "P100-16G-SXM2": 80e9, "V100-16G": 150e9, "V100-32G": 150e9, "A100-40G": 300e9, "A100-80G": 300e9, "H100-80G": 450e9,
    "GH200-96G": 450e9, "H20-96G": 450e9, "H200-141G": 450e9, "B200-180G": 900e9,
}  # fmt: skip
"""Likewise of cards that sit on a board with their links."""


@dataclass(frozen=True)
class Ring:
    """The processes that sum and gather, one after the other in a ring."""

    size: int
    bytes_per_s: Range
    """Of its slowest link, slowest and fastest that is likely; what a collective reaches of it."""

    @classmethod
    def of(cls, targets: Sequence[Target], size: int, num_nodes: int, link_speed: LinkSpeed | None) -> Ring:
        """Over the devices of each machine in their order; `link_speed` is between positions in `targets`."""
        rates = [] if num_nodes == 1 else [NETWORK_BYTES_PER_S]
        if targets[0].is_cpu:
            rates += [HOST_BYTES_PER_S] if size > num_nodes else []
        else:
            pairs = [(place, (place + 1) % len(targets)) for place in range(len(targets))] if len(targets) > 1 else []
            for one, other in pairs:
                slow, fast = _between(targets, one, other, link_speed)
                rates.append((slow * LINK_SHARE[0], fast * LINK_SHARE[1]))
        return cls(size, (min(slow for slow, _ in rates), min(fast for _, fast in rates)))

    def summed(self, num_bytes: float, calls: int) -> Seconds:
        """(2,): of so many all-reduces, together of `num_bytes`."""
        return self._seconds(2 * num_bytes, calls)

    def gathered(self, num_bytes: float, calls: int) -> Seconds:
        """(2,): of so many all-gathers, which have `num_bytes` together when all is there."""
        return self._seconds(num_bytes, calls)

    def _seconds(self, num_bytes: float, calls: int) -> Seconds:
        slow, fast = self.bytes_per_s
        sent = num_bytes * (self.size - 1) / self.size
        return np.array([sent / fast + calls * HOP_S[0], sent / slow + calls * HOP_S[1]])


def _between(targets: Sequence[Target], one: int, other: int, link_speed: LinkSpeed | None) -> Range:
    """What a link carries, at least and at most: as it is known; else by the cards, which a bridge may join or not."""
    speed = link_speed(min(one, other), max(one, other)) if link_speed else 0.0
    if speed:
        return speed, speed
    names = [spec.name if (spec := targets[place].spec) else "" for place in (one, other)]
    on_board = [ON_BOARD_BYTES_PER_S.get(name, 0.0) for name in names]
    if all(on_board):
        return min(on_board), min(on_board)
    bridged = min(BRIDGED_BYTES_PER_S.get(name, 0.0) for name in names)
    return DEFAULT_LINK_BYTES_PER_S, max(DEFAULT_LINK_BYTES_PER_S, bridged)
