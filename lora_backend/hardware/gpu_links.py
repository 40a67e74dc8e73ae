"""How the GPUs of this machine reach each other: NVLink, or PCIe and what lies between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import pynvml

from lora_backend.hardware.nvml import ask

NVLINK_BYTES_PER_S: dict[int, tuple[str, float]] = {
    pynvml.NVML_NVLINK_VERSION_1_0: ("1.0", 20e9),
    pynvml.NVML_NVLINK_VERSION_2_0: ("2.0", 25e9),
    pynvml.NVML_NVLINK_VERSION_2_2: ("2.2", 25e9),
    pynvml.NVML_NVLINK_VERSION_3_0: ("3.0", 25e9),
    pynvml.NVML_NVLINK_VERSION_3_1: ("3.1", 25e9),
    pynvml.NVML_NVLINK_VERSION_4_0: ("4.0", 25e9),
    pynvml.NVML_NVLINK_VERSION_5_0: ("5.0", 50e9),
    pynvml.NVML_NVLINK_VERSION_6_0: ("6.0", 50e9),
}
"""NVML's number for a version → its name, and one link's bytes a second in one direction: NVIDIA's totals
(P100 160 GB/s, V100 300, A100 600, H100 900, B200 1800, Rubin 3600) over 4, 6, 12, 18, 18, 36 links and two directions."""

PCIE_BYTES_PER_S = {
    1: 2.5e9 * 8 / 10 / 8,
    2: 5e9 * 8 / 10 / 8,
    3: 8e9 * 128 / 130 / 8,
    4: 16e9 * 128 / 130 / 8,
    5: 32e9 * 128 / 130 / 8,
    6: 64e9 * 242 / 256 / 8,
}
"""PCIe generation → one lane's bytes a second in one direction: transfers a second times the share that the
generation's encoding leaves for data (8b/10b, 128b/130b, 242 of a flit's 256 bytes)."""

TOPOLOGY = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "internal",
    pynvml.NVML_TOPOLOGY_SINGLE: "single",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "multiple",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "hostbridge",
    pynvml.NVML_TOPOLOGY_NODE: "node",
    pynvml.NVML_TOPOLOGY_SYSTEM: "system",
}
"""What two GPUs have in common, nearest first, in NVML's words: one board, one PCIe switch, several, a host bridge, a
NUMA node, only the machine."""

PEER_TO_PEER_READ = 0  # pynvml's own NVML_P2P_CAPS_INDEX_READ is a tuple


@dataclass(frozen=True)
class GpuLink:
    """The best way between two whole GPUs; MIG instances have none.

    `num_links` counts NVLinks or PCIe lanes, `version` is the NVLink version or PCIe generation, and
    `bandwidth_bytes_per_s` what the hardware can carry one way, estimated from both; measured rates are lower.
    `topology` is a word of `TOPOLOGY`. `peer_to_peer` False: copies pass through host memory. None: not told.
    """

    first_uuid: str
    second_uuid: str
    kind: Literal["nvlink", "pcie"]
    num_links: int | None
    version: str | None
    bandwidth_bytes_per_s: int | None
    topology: str | None
    peer_to_peer: bool | None


@dataclass(frozen=True)
class _Ports:
    """A GPU's ends: where its active NVLinks lead (None: a switch), their version, and its PCIe slot."""

    address: tuple[int, int, int] | None
    nvlinks: Counter[tuple[int, int, int] | None]
    nvlink_version: int | None
    pcie_generation: int | None
    pcie_lanes: int | None


def read_links(handles: Mapping[str, Any]) -> tuple[GpuLink, ...]:
    """The link of every pair of `handles` (UUID → NVML handle of a whole GPU), in their order."""
    ports = {uuid: _read_ports(handle) for uuid, handle in handles.items()}
    links = []
    for (first, first_handle), (second, second_handle) in combinations(handles.items(), 2):
        level = ask(pynvml.nvmlDeviceGetTopologyCommonAncestor, first_handle, second_handle)
        status = ask(pynvml.nvmlDeviceGetP2PStatus, first_handle, second_handle, PEER_TO_PEER_READ)
        links.append(
            GpuLink(
                first,
                second,
                *_best_way(ports[first], ports[second]),
                topology=TOPOLOGY.get(level),
                peer_to_peer=None if status is None else status == pynvml.NVML_P2P_STATUS_OK,
            )
        )
    return tuple(links)


def _best_way(first: _Ports, second: _Ports) -> tuple[Literal["nvlink", "pcie"], int | None, str | None, int | None]:
    direct = first.nvlinks[second.address] if second.address else 0
    num_nvlinks = direct or min(first.nvlinks[None], second.nvlinks[None])
    if num_nvlinks:
        version, rate = NVLINK_BYTES_PER_S.get(first.nvlink_version or 0, (None, 0.0))
        return "nvlink", num_nvlinks, version, int(num_nvlinks * rate) or None
    if None in (first.pcie_generation, first.pcie_lanes, second.pcie_generation, second.pcie_lanes):
        return "pcie", None, None, None
    narrower = min((first, second), key=_pcie_bytes_per_s)
    rate = _pcie_bytes_per_s(narrower)
    return "pcie", narrower.pcie_lanes, str(narrower.pcie_generation), int(rate) or None


def _pcie_bytes_per_s(ports: _Ports) -> float:
    return PCIE_BYTES_PER_S.get(ports.pcie_generation or 0, 0.0) * (ports.pcie_lanes or 0)


def _read_ports(handle: Any) -> _Ports:
    nvlinks: Counter[tuple[int, int, int] | None] = Counter()
    version = None
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        active = ask(pynvml.nvmlDeviceGetNvLinkState, handle, link)
        if active is None:  # past the last link, or no NVLink at all
            break
        if not active:
            continue
        version = version or ask(pynvml.nvmlDeviceGetNvLinkVersion, handle, link)
        to_switch = (
            ask(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link) == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH
        )
        remote = None if to_switch else _address(ask(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, link))
        if to_switch or remote:
            nvlinks[remote] += 1
    return _Ports(
        _address(ask(pynvml.nvmlDeviceGetPciInfo, handle)),
        nvlinks,
        version,
        # The slot's greatest: an idle GPU falls back to a slower generation.
        ask(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        ask(pynvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
    )


def _address(pci: Any | None) -> tuple[int, int, int] | None:
    return None if pci is None else (pci.domain, pci.bus, pci.device)
