"""How long the demo takes on this machine: by how fast its cores multiply matrices, measured once for each kind of CPU."""

from __future__ import annotations

import threading
from pathlib import Path

from lora_backend.atomic import write_json
from lora_backend.bounded import read_text
from lora_backend.hardware.cpu_speed import flops_per_core, training_cores
from lora_backend.runs.record.locked_files import read_json

MEASURED_S, STARTING_S = 119.0, 7.0
"""The whole demo in bf16 on two idle cores, and what of that is Python and its imports (docs/speed.md)."""
MEASURED_FLOPS = 2 * 160e9
"""What those two cores did in fp32 by this very measure."""
WITHOUT_BF16 = 1.94
"""Times slower in fp32: 453 against 234 tokens a second of a core (docs/speed.md)."""
BUSY = 2.0
"""A machine that does other things beside takes up to so many times as long."""
FILE = "demo-pace.json"
CPUINFO = Path("/proc/cpuinfo")
LONGEST_CPUINFO = 4 * 2**20

_lock = threading.Lock()
_asked: set[str] = set()
"""CPUs that this process has begun to measure."""


def demo_seconds(cache: Path) -> tuple[float, float] | None:
    """From idle cores to busy ones; None until it is measured, which begins now, beside whoever asks."""
    cpu, has_bf16 = _this_cpu()
    known = read_json(cache / FILE) or {}
    flops = known.get("flops")
    if known.get("cpu") == cpu and isinstance(flops, int | float) and flops > 0:
        return _seconds(float(flops), has_bf16=has_bf16)
    with _lock:
        if cpu in _asked:
            return None
        _asked.add(cpu)
    threading.Thread(target=measure, args=(cache,), daemon=True).start()
    return None


def measure(cache: Path) -> None:
    """Measure this machine's cores, and keep it; where that cannot be, nothing is promised."""
    per_core = flops_per_core()
    if per_core is None:
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_json(cache / FILE, {"cpu": _this_cpu()[0], "flops": per_core * training_cores()})
    except OSError:
        return


def _seconds(flops: float, *, has_bf16: bool) -> tuple[float, float]:
    work_s = (MEASURED_S - STARTING_S) * MEASURED_FLOPS / flops * (1.0 if has_bf16 else WITHOUT_BF16)
    return STARTING_S + work_s, STARTING_S + BUSY * work_s


def _this_cpu() -> tuple[str, bool]:
    """Its name with the cores that a training has, and whether it computes bf16."""
    try:
        text = read_text(CPUINFO, LONGEST_CPUINFO)
    except (OSError, UnicodeDecodeError):
        text = ""
    facts = dict(line.split(":", 1) for line in text.partition("\n\n")[0].splitlines() if ":" in line)
    named = {name.strip(): value.strip() for name, value in facts.items()}
    return f"{named.get('model name', '?')} × {training_cores()}", "avx512_bf16" in named.get("flags", "").split()
