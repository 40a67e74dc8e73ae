"""Where weights go that are loaded for a try: GPUs first, host memory behind them, and what is missing if both are full."""

from __future__ import annotations

from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.split.offload import ROOM, with_host_memory
from lora_backend.planning.targets import Target
from tests.planning.profiles import llama


def test_what_is_missing_is_what_would_have_to_be_added_whatever_the_host_has() -> None:
    memory = Memory(llama(), Workload(Size(1, 64, 8)))
    weights = [memory.weights_bytes(unit) * ROOM for unit in range(memory.num_units)]
    gpu = Target(0, "GPU", memory.overhead_bytes + round(sum(weights[:2])) + 1)
    alone, _ = with_host_memory(memory, [gpu], Target("cpu", "host", 10 * round(sum(weights))))
    on_host = round(sum(weight for weight, place in zip(weights, alone, strict=True) if place == "cpu"))
    assert on_host
    for host_bytes in range(0, on_host + 2, max(on_host // 50, 1)):
        placed, missing = with_host_memory(memory, [gpu], Target("cpu", "host", host_bytes))
        assert (missing, bool(placed)) == (max(on_host - host_bytes, 0), host_bytes >= on_host)
    placed, missing = with_host_memory(memory, [gpu], None)
    assert not placed
    assert missing > 0
