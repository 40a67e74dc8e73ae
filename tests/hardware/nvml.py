"""A machine with any GPUs, for a process: a real `libnvidia-ml.so.1`, built from nvml_stub.c, which the real pynvml loads.

`stub_environment` gives the environment to start that process with (the dynamic linker reads LD_LIBRARY_PATH at start
only, so the test's own process keeps what it has):

    environment = stub_environment(tmp_path, '''
        gpu name=NVIDIA A100-SXM4-80GB, uuid=GPU-a, gib=80, used_gib=2.5, cc=8.0, pcie=4, lanes=16, busy=87, celsius=64, watts=212, limit=400
          process pid=4711, gib=2, graphics=0        # without gib: bytes that are not told
          nvlink to=1, version=6, count=4            # or to=switch; version is NVML's number, 0 a link that is down
          error call=nvmlDeviceGetMemoryInfo, code=3 # without call: every call on this device
        gpu name=NVIDIA H100 80GB HBM3, gib=80, mig=1
          mig uuid=MIG-b, gib=10                     # may have processes and errors of its own
        pair first=0, second=1, level=20, p2p=0      # what nvmlDeviceGetTopologyCommonAncestor and …P2PStatus answer
    ''')
    subprocess.run([sys.executable, "-m", "lora_backend", "plan", …], env=environment)

Indentation is free; a line belongs to the device above it, an `error` before any device to the call itself. The file
is read at every nvmlInit that nobody else's precedes, so a test can rewrite `description_file(environment)` while the
process runs: a GPU vanishes.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("nvml_stub.c")
ROOT = Path(__file__).parents[2]


def stub_environment(tmp_path: Path, description: str, *, old_driver: bool = False) -> dict[str, str]:
    """This process's environment, changed so that a child sees the GPUs of `description` (see above) and no others.

    `old_driver`: the library lacks MIG, NVLink, topology and the newest calls for processes.
    """
    file = tmp_path / "gpus.txt"
    describe(file, description)
    hiding = {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"}
    return {key: value for key, value in os.environ.items() if key not in hiding} | {
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(library(old_driver)), os.environ.get("LD_LIBRARY_PATH")])),
        "NVML_STUB_DESCRIPTION": str(file),
    }


def describe(file: Path, description: str) -> None:
    """Write what the stub shows from its next initialization on."""
    file.write_text("\n".join(line.partition("#")[0].strip() for line in description.splitlines()) + "\n")


def description_file(environment: dict[str, str]) -> Path:
    return Path(environment["NVML_STUB_DESCRIPTION"])


@cache
def library(old_driver: bool) -> Path:
    """The folder that holds the library; built once for each state of its source."""
    command = [*compiler(), "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-pthread"]
    command += ["-DOLD_DRIVER"] if old_driver else []
    state = hashlib.sha256(SOURCE.read_bytes() + "\0".join(command).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"nvml-stub-{os.getuid()}-{state}"
    built = folder / "libnvidia-ml.so.1"
    if not built.exists():
        folder.mkdir(exist_ok=True)
        # By rename, for several test processes may build it at once.
        fresh = folder / f"{os.getpid()}.so"
        subprocess.run([*command, "-o", str(fresh), str(SOURCE)], check=True)
        fresh.replace(built)
    return folder


def compiler() -> list[str]:
    """The system's C compiler, else the one in the wheel `ziglang`."""
    found = shutil.which("cc") or shutil.which("gcc")
    return [found] if found else [sys.executable, "-m", "ziglang", "cc"]


def result_of(expression: str, environment: dict[str, str], imports: str = "") -> Any:
    """What `expression` gives in a fresh interpreter started with `environment`."""
    code = f"import pickle, sys\n{imports}\nsys.stdout.buffer.write(pickle.dumps({expression}))"
    child = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True, capture_output=True)
    return pickle.loads(child.stdout)
