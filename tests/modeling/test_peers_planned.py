"""What a step of two processes holds is what was planned for it: both in a workplace of their own, over gloo, on the CPU."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from benchmarks.real_steps import small_config
from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.profiling import profile_for
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.planner import Planner
from lora_backend.planning.targets import GIB, Target
from tests.modeling.peer_steps import saved_model
from tests.often import often
from tests.together import together

FAMILIES = ("llama", "qwen2", "gemma2", "gpt2", "phi3", "mixtral")
HOST = Target("cpu", "CPU", 64 * GIB)
SETTINGS: dict[str, dict[str, Any]] = {
    "two passes each, fp32": {"precision": "fp32", "batch_size": 1, "max_length": 150, "target_batch_size": 4},
    "padded, bf16, checkpointing": {
        "precision": "bf16", "batch_size": 3, "max_length": 70, "target_batch_size": 6, "gradient_checkpointing": True,
    },
}  # fmt: skip
COMMON = {"num_processes": 2, "batching": "padded", "loss_type": "nll", "r": 16}


@pytest.mark.parametrize("family", often(FAMILIES, {"gpt2"}))
def test_two_processes_hold_what_was_planned(family: str, tmp_path: Path) -> None:
    facts = saved_model(tmp_path / "model", small_config(family))
    base = {**COMMON, "model_name": str(tmp_path / "model")}
    cases = {
        f"{setting}, {strategy}": {**base, **keys, "strategy": strategy}
        for (setting, keys), strategy in product(SETTINGS.items(), ("ddp", "fsdp"))
    }
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    together("tests.modeling.peer_steps:measured_steps", tmp_path)
    profiles: dict[str, Profile] = {}
    for name, case in cases.items():
        config = TrainingConfig.model_validate(case)
        if config.precision not in profiles:
            profiles[config.precision] = profile_for(facts, config)
        plan = Planner(lambda one: profiles[one.precision], (HOST,)).plan(config)
        held = [json.loads((tmp_path / f"{name}.{rank}.json").read_text()) for rank in (0, 1)]
        planned, measured = plan.devices[0].breakdown.tensors, sum(one["static"] + one["moving"] for one in held)
        print(f"{family}, {name}: {planned / measured - 1:+.4%} of {measured / 2**20:.1f} MiB")
        assert planned == pytest.approx(measured, rel=0.015)
        moving = planned - sum(one["static"] for one in held)
        assert moving == pytest.approx(sum(one["moving"] for one in held), rel=0.03)
