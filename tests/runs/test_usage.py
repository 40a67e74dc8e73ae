"""What a run's devices hold now, through the real driver interface over simulated GPUs, and a real process."""

from __future__ import annotations

import os
from pathlib import Path

from lora_backend.hardware.inventory import GpuInventory
from lora_backend.runs.history.usage import Usage, usage
from lora_backend.runs.record.process_identity import identify
from tests.hardware.nvml import result_of, stub_environment
from tests.run_files import add_start, make_run, set_status

GIB = 2**30
IMPORTS = """
from pathlib import Path
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.history.usage import usage
"""


def test_a_runs_gpus_are_shown_with_plan_and_load_and_no_others(tmp_path: Path) -> None:
    run = make_run(tmp_path, config={}, config_text="", argv=None)
    me = identify(os.getpid())
    assert me is not None
    set_status(run, state="running", trainer=me.to_json())
    plan = {"devices": [{"index": 0, "total_bytes": 5 * GIB}], "assignment": [0, 0]}
    add_start(run, device_uuids=["GPU-b"], plan=plan)
    gpus = f"gpu uuid=GPU-a, gib=8\ngpu uuid=GPU-b, gib=24, used_gib=6, busy=40\n process pid={os.getpid()}, gib=4"
    environment = stub_environment(tmp_path, gpus)
    found: Usage = result_of(f"usage(RunStore(Path({str(run.path)!r})))", environment, IMPORTS)
    (gpu,) = found.gpus
    assert (gpu.gpu.uuid, gpu.gpu.used_bytes, gpu.gpu.utilization) == ("GPU-b", 6 * GIB, 0.4)
    assert (gpu.planned_bytes, gpu.trainer_bytes) == (5 * GIB, 4 * GIB)
    assert found.trainer_bytes
    assert found.trainer_bytes > 10 * 2**20
    assert 0 < found.host_used_bytes < found.host_total_bytes


def test_without_a_living_trainer_only_the_host_is_known(tmp_path: Path) -> None:
    run = make_run(tmp_path, config={}, config_text="", argv=None)
    found = usage(run, lambda: GpuInventory(()))
    assert (found.gpus, found.trainer_bytes) == ((), None)
    set_status(run, trainer={"pid": 2**22 - 1, "start_ticks": 1, "boot_id": "x"})
    assert usage(run, lambda: GpuInventory(())).trainer_bytes is None
