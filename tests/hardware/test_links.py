"""How GPUs reach each other, read by the real pynvml from a driver library of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_backend.hardware.gpu_links import GpuLink
from tests.hardware.nvml import result_of, stub_environment

Links = Callable[[str], dict[tuple[str, str], GpuLink]]


@pytest.fixture
def links(tmp_path: Path) -> Links:
    def read(description: str) -> dict[tuple[str, str], GpuLink]:
        environment = stub_environment(tmp_path, description)
        found = result_of("read_gpus().links", environment, "from lora_backend.hardware.inventory import read_gpus")
        return {(link.first_uuid[-1], link.second_uuid[-1]): link for link in found}

    return read


def test_direct_nvlinks_are_counted_by_the_gpu_they_lead_to(links: Links) -> None:
    found = links("""
        gpu gib=16
          nvlink to=1, version=2, count=2
          nvlink to=2, version=2, count=1
          nvlink to=1, version=0      # down
        gpu gib=16
          nvlink to=0, version=2, count=2
        gpu gib=16
          nvlink to=0, version=2, count=1
    """)
    assert [found["0", "1"].kind, found["0", "2"].kind, found["1", "2"].kind] == ["nvlink", "nvlink", "pcie"]
    assert [found["0", "1"].num_links, found["0", "2"].num_links] == [2, 1]
    assert (found["0", "1"].version, found["0", "1"].bandwidth_bytes_per_s) == ("2.0", 50_000_000_000)


def test_through_a_switch_every_gpu_has_all_its_links_to_every_other(links: Links) -> None:
    found = links("\n".join("gpu gib=80\n nvlink to=switch, version=6, count=18" for _ in range(4)))
    assert len(found) == 6
    assert {(link.kind, link.num_links, link.version) for link in found.values()} == {("nvlink", 18, "4.0")}
    # An H100 is sold with 900 GB/s, both directions together.
    assert {link.bandwidth_bytes_per_s for link in found.values()} == {450_000_000_000}


def test_an_nvlink_of_a_version_that_is_not_known_has_no_bandwidth(links: Links) -> None:
    link = links("gpu gib=80\n nvlink to=1, version=99\n gpu gib=80\n nvlink to=0, version=99")["0", "1"]
    assert (link.kind, link.num_links, link.version, link.bandwidth_bytes_per_s) == ("nvlink", 1, None, None)


def test_pcie_is_as_wide_as_the_narrower_slot(links: Links) -> None:
    found = links("""
        gpu gib=24, pcie=4, lanes=16
        gpu gib=24, pcie=5, lanes=4
        gpu gib=24, pcie=4, lanes=16
    """)
    assert (found["0", "1"].kind, found["0", "1"].version, found["0", "1"].num_links) == ("pcie", "5", 4)
    assert found["0", "1"].bandwidth_bytes_per_s == pytest.approx(15.75e9, rel=0.001)
    assert found["0", "2"].bandwidth_bytes_per_s == pytest.approx(31.5e9, rel=0.001)


def test_a_slot_that_is_not_told_leaves_the_bandwidth_open(links: Links) -> None:
    link = links("gpu gib=24\n gpu gib=24\n error call=nvmlDeviceGetMaxPcieLinkWidth, code=3")["0", "1"]
    assert (link.kind, link.num_links, link.version, link.bandwidth_bytes_per_s) == ("pcie", None, None, None)


def test_what_lies_between_and_whether_peers_reach_each_other_is_told(links: Links) -> None:
    found = links("""
        gpu gib=24
        gpu gib=24
        gpu gib=24
        pair first=0, second=1, level=10, p2p=0
        pair first=1, second=2, level=50, p2p=5
    """)
    assert (found["0", "1"].topology, found["0", "1"].peer_to_peer) == ("single", True)
    assert (found["1", "2"].topology, found["1", "2"].peer_to_peer) == ("system", False)


def test_links_that_the_driver_does_not_tell_hide_no_gpu(links: Links) -> None:
    (link,) = links("gpu gib=24\n error call=nvmlDeviceGetTopologyCommonAncestor, code=999\n gpu gib=24").values()
    assert (link.topology, link.kind) == (None, "pcie")
