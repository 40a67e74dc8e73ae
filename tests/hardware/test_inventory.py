"""What this machine has, read by the real pynvml from a driver library of the test's own."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from lora_backend.hardware.inventory import GpuInventory, read_gpus, read_host
from tests.hardware.nvml import describe, description_file, result_of, stub_environment

GIB = 2**30
IMPORT = "from lora_backend.hardware.inventory import read_gpus"
LOST, NO_PERMISSION, NOT_SUPPORTED, NOT_LOADED, OTHER_VERSION, UNKNOWN, NEWER_THAN_PYNVML = 15, 4, 3, 9, 18, 999, 998

Read = Callable[..., GpuInventory]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The inventory of a process that finds the described driver."""

    def inventory(description: str, *, old_driver: bool = False) -> GpuInventory:
        environment = stub_environment(tmp_path, description, old_driver=old_driver)
        found: GpuInventory = result_of("read_gpus()", environment, IMPORT)
        return found

    return inventory


def said(inventory: GpuInventory) -> str:
    assert inventory.reason is not None
    return inventory.reason.text("en")


def test_here_are_gpus_or_a_reason_why_not() -> None:
    inventory = read_gpus()
    assert inventory.gpus or "CPU" in said(inventory)


def test_without_a_driver_training_runs_on_the_cpu(tmp_path: Path) -> None:
    environment = stub_environment(tmp_path, "")
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")  # found first, and no library
    inventory = result_of("read_gpus()", environment | {"LD_LIBRARY_PATH": str(tmp_path)}, IMPORT)
    assert inventory.gpus == ()
    assert said(inventory) == "No NVIDIA GPU here: this machine has no NVIDIA driver. Training runs on the CPU."


def test_a_driver_without_devices_says_so(read: Read) -> None:
    inventory = read("")
    assert (inventory.gpus, inventory.links) == ((), ())
    assert said(inventory) == "The NVIDIA driver is installed, but it shows no GPU. Training runs on the CPU."


def test_a_gpu_is_plain_data(read: Read) -> None:
    inventory = read("gpu name=NVIDIA GeForce RTX 4090, uuid=GPU-8932f937, gib=24, used_gib=1.5, cc=8.9")
    (gpu,) = inventory.gpus
    assert (gpu.index, gpu.uuid, gpu.name) == (0, "GPU-8932f937", "NVIDIA GeForce RTX 4090")
    assert (gpu.total_bytes, gpu.used_bytes, gpu.free_bytes) == (24 * GIB, 3 * GIB // 2, 24 * GIB - 3 * GIB // 2)
    assert gpu.compute_capability == (8, 9)
    assert (gpu.processes, gpu.parent_uuid, gpu.uses_host_memory) == ((), None, False)
    assert (inventory.reason, inventory.links) == (None, ())


def test_how_busy_a_gpu_is_is_told_where_the_driver_tells(read: Read) -> None:
    gpus = read("gpu gib=24, busy=87\ngpu gib=24").gpus
    assert [gpu.utilization for gpu in gpus] == [0.87, None]


def test_heat_and_power_are_told_where_the_driver_tells(read: Read) -> None:
    told = "gpu gib=24, celsius=64, watts=212, limit=350\ngpu gib=24, watts=90\ngpu gib=24"
    refused = f"gpu gib=24, celsius=64\n error call=nvmlDeviceGetTemperature, code={NOT_SUPPORTED}"
    gpus = read(f"{told}\n{refused}\ngpu gib=80, mig=1, celsius=50\n mig gib=10").gpus
    assert [(gpu.temperature_c, gpu.power_w, gpu.power_limit_w) for gpu in gpus] == [
        (64, 212.0, 350.0),
        (None, 90.0, None),
        (None, None, None),
        (None, None, None),
        (None, None, None),
    ]


@pytest.mark.parametrize("count", [3, 16])
def test_every_gpu_is_listed_in_the_order_of_the_bus(count: int, read: Read) -> None:
    inventory = read("\n".join(f"gpu gib={8 + index}" for index in range(count)))
    assert [(gpu.index, gpu.total_bytes // GIB) for gpu in inventory.gpus] == [(i, 8 + i) for i in range(count)]
    assert len(inventory.links) == count * (count - 1) // 2


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (NOT_LOADED, "The NVIDIA driver does not answer (Driver Not Loaded)."),
        (UNKNOWN, "The NVIDIA driver does not answer (Unknown Error)."),
        (NEWER_THAN_PYNVML, "The NVIDIA driver does not answer ("),
        (NO_PERMISSION, "This user has no permission for the NVIDIA device files"),
        (OTHER_VERSION, "its library and its kernel module differ. Restart the machine."),
    ],
)
@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2"])
def test_a_driver_that_fails_is_a_sentence(call: str, code: int, sentence: str, read: Read) -> None:
    inventory = read(f"error call={call}, code={code}\n gpu gib=24")
    assert inventory.gpus == ()
    assert sentence in said(inventory)
    assert said(inventory).endswith(". Training runs on the CPU.")


def test_a_driver_that_fails_to_close_has_still_told_its_gpus(read: Read) -> None:
    inventory = read("error call=nvmlShutdown, code=999\n gpu gib=24")
    assert (len(inventory.gpus), inventory.reason) == (1, None)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (LOST, "GPU 1 is lost: it fell off the bus. Restart the machine to get it back."),
        (NO_PERMISSION, "You have no permission to use GPU 1: its device file under /dev is closed to this user."),
        (UNKNOWN, "GPU 1 does not answer (Unknown Error)."),
    ],
)
@pytest.mark.parametrize("call", ["", "call=nvmlDeviceGetMemoryInfo, ", "call=nvmlDeviceGetUUID, "])
def test_a_gpu_that_fails_hides_none_of_the_others(call: str, code: int, sentence: str, read: Read) -> None:
    inventory = read(f"gpu gib=24\n gpu gib=24\n error {call}code={code}\n gpu gib=12")
    assert [(gpu.index, gpu.uuid) for gpu in inventory.gpus] == [(0, "GPU-0"), (2, "GPU-2")]
    assert [(link.first_uuid, link.second_uuid) for link in inventory.links] == [("GPU-0", "GPU-2")]
    assert said(inventory) == sentence


def test_several_gpus_that_fail_are_all_named(read: Read) -> None:
    one_lost_one_closed = f"gpu gib=24\n error code={LOST}\n gpu gib=24\n error code={NO_PERMISSION}\n"
    assert "GPU 0 is lost" in said(read(one_lost_one_closed + "gpu gib=24"))
    inventory = read(one_lost_one_closed)
    assert inventory.gpus == ()
    for part in ("GPU 0 is lost", "permission to use GPU 1", "Training runs on the CPU."):
        assert part in said(inventory)


def test_a_gpu_that_vanishes_is_missing_from_the_next_inventory(tmp_path: Path) -> None:
    environment = stub_environment(tmp_path, "gpu gib=24\n gpu gib=12")
    after = tmp_path / "after.txt"
    describe(after, f"gpu gib=24\n gpu gib=12\n error code={LOST}")
    both = f"(read_gpus(), os.replace({str(after)!r}, {str(description_file(environment))!r}), read_gpus())"
    before, _, later = result_of(both, environment, f"import os\n{IMPORT}")
    assert [gpu.index for gpu in before.gpus] == [0, 1]
    assert [gpu.index for gpu in later.gpus] == [0]
    assert "GPU 1 is lost" in said(later)


def test_who_uses_a_gpu_is_told_with_user_name_and_bytes(read: Read) -> None:
    me = psutil.Process()
    (gpu,) = read(f"gpu gib=24, used_gib=9\n process pid=1, gib=2\n process pid={me.pid}, gib=6.5").gpus
    mine, init = gpu.processes
    assert (mine.pid, mine.user, mine.name, mine.used_bytes) == (me.pid, getpass.getuser(), me.name(), 13 * GIB // 2)
    assert (init.pid, init.used_bytes) == (1, 2 * GIB)


def test_a_process_that_computes_and_draws_is_one_process(read: Read) -> None:
    pid = os.getpid()
    lines = (
        f"process pid={pid}, gib=1\n process pid={pid}, graphics=1\n process pid=1\n process pid=1, gib=2, graphics=1"
    )
    (gpu,) = read(f"gpu gib=24\n {lines}").gpus
    assert [(process.pid, process.used_bytes) for process in gpu.processes] == [(1, 2 * GIB), (pid, GIB)]


def test_a_process_out_of_sight_is_listed_by_its_pid(read: Read) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()  # reaped: such a pid stands for nobody here, as one from another container does
    (gpu,) = read(f"gpu gib=24\n process pid={ended.pid}, gib=2\n process pid=4294967294, gib=1").gpus
    assert [(process.user, process.name) for process in gpu.processes] == [(None, None), (None, None)]
    assert [process.pid for process in gpu.processes] == [ended.pid, 4294967294]


def test_processes_that_may_not_be_seen_hide_no_gpu(read: Read) -> None:
    calls = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
    refused = "\n".join(f"error call={call}, code={NO_PERMISSION}" for call in calls)
    inventory = read(f"gpu gib=24\n process pid=1, gib=2\n {refused}")
    assert (inventory.gpus[0].processes, inventory.reason) == ((), None)


def test_the_instances_of_a_gpu_in_mig_mode_are_devices_and_it_is_none(read: Read) -> None:
    inventory = read("""
        gpu name=NVIDIA A100-SXM4-40GB, uuid=GPU-whole, gib=40, cc=8.0, mig=0
        gpu name=NVIDIA A100-SXM4-40GB, uuid=GPU-cut, gib=40, cc=8.0, mig=1
          mig name=NVIDIA A100-SXM4-40GB MIG 3g.20gb, uuid=MIG-a, gib=20, used_gib=4
            process pid=1, gib=4
          mig name=NVIDIA A100-SXM4-40GB MIG 1g.5gb, uuid=MIG-b, gib=5
    """)
    assert [(gpu.index, gpu.uuid, gpu.parent_uuid) for gpu in inventory.gpus] == [
        (0, "GPU-whole", None),
        (1, "MIG-a", "GPU-cut"),
        (1, "MIG-b", "GPU-cut"),
    ]
    first, second = inventory.gpus[1:]
    assert (first.name, first.free_bytes, first.compute_capability) == (
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        16 * GIB,
        (8, 0),
    )
    assert ([process.pid for process in first.processes], second.processes) == ([1], ())
    assert inventory.reason is None
    assert inventory.links == ()  # instances have none


def test_mig_mode_without_instances_is_said(read: Read) -> None:
    inventory = read("gpu gib=24\n gpu gib=40, mig=1")
    assert [gpu.index for gpu in inventory.gpus] == [0]
    assert "GPU 1 is in MIG mode and has no instance" in said(inventory)


def test_an_instance_that_fails_hides_none_before_it(read: Read) -> None:
    inventory = read(
        f"gpu gib=40, mig=1\n mig uuid=MIG-a, gib=20\n mig uuid=MIG-b, gib=20\n error code={NO_PERMISSION}"
    )
    assert [gpu.uuid for gpu in inventory.gpus] == ["MIG-a"]
    assert "permission to use GPU 0" in said(inventory)


def test_a_gpu_without_memory_of_its_own_has_the_hosts(read: Read) -> None:
    inventory = read(f"gpu name=NVIDIA GB10, cc=12.1\n error call=nvmlDeviceGetMemoryInfo, code={NOT_SUPPORTED}")
    (gpu,) = inventory.gpus
    assert gpu.uses_host_memory
    assert gpu.total_bytes == psutil.virtual_memory().total
    assert 0 < gpu.used_bytes < gpu.total_bytes


def test_an_old_driver_still_gives_an_inventory(read: Read) -> None:
    inventory = read(
        "gpu gib=16, cc=6.0\n process pid=1, gib=2\n nvlink to=1\n gpu gib=16, cc=6.0\n nvlink to=0", old_driver=True
    )
    assert [gpu.total_bytes for gpu in inventory.gpus] == [16 * GIB, 16 * GIB]
    assert [process.used_bytes for process in inventory.gpus[0].processes] == [2 * GIB]
    assert inventory.reason is None
    (link,) = inventory.links
    assert (link.kind, link.topology, link.peer_to_peer) == ("pcie", None, None)


def test_the_host_is_described(tmp_path: Path) -> None:
    host = read_host(tmp_path)
    assert host.num_cores >= 1
    assert 0 < host.memory_available_bytes <= host.memory_total_bytes
    assert 0 <= host.swap_free_bytes <= host.swap_total_bytes
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert host.swap_total_bytes == int(meminfo["SwapTotal"].split()[0]) * 1024
    status = os.statvfs(tmp_path)
    assert host.disk_total_bytes == status.f_blocks * status.f_frsize
    assert 0 < host.disk_free_bytes <= host.disk_total_bytes


@pytest.mark.parametrize("below", ["none", "none/at/all"])
def test_the_disk_of_a_folder_that_is_not_made_yet_is_that_of_its_parent(below: str, tmp_path: Path) -> None:
    assert read_host(tmp_path / below).disk_total_bytes == read_host(tmp_path).disk_total_bytes


def test_a_relative_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_host(Path("none/yet")).disk_total_bytes == read_host(tmp_path).disk_total_bytes
