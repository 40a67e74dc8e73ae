"""The demo's predicted time, held against what it took where it was measured."""

from __future__ import annotations

from lora_backend.config.schema import TrainingConfig
from lora_backend.demo.config import demo_config
from lora_backend.installation import this_installation
from lora_backend.modeling.profiling import profile_for
from lora_backend.models.catalogue import find_in_catalogue
from lora_backend.planning.cost.row_lengths import RowLengths
from lora_backend.planning.cost.step_time import Cpu
from lora_backend.planning.estimate import Conditions, estimate
from lora_backend.planning.planner import Planner
from lora_backend.planning.targets import GIB, Target

AS_MEASURED = {"precision": "fp32"}
"""In which it was measured, whatever `auto` is on the machine of this test."""
CORES, FLOPS_PER_CORE = 2, 1.0e11
"""Of the machine of these measurements, two cores of an AMD EPYC (Zen 4): the product of fp32 matrices, each core."""
TOKENS = (43, 54, 55, 55, 57, 61, 65, 66, 68, 70, 72, 75, 78, 87)
"""Lengths of the demo's rows, evenly from the shortest to the longest."""
NUM_STEPS = 66
STEP_CPU_S = (1.9, 2.2)
"""Processor seconds of a step, least and most, by one thread beside other work."""
RUN_S = tuple(NUM_STEPS * cpu_s / CORES for cpu_s in STEP_CPU_S)
"""Of all steps, both cores at work."""


def test_the_range_of_the_demo_holds_what_it_took_and_is_no_wider_than_three() -> None:
    known = find_in_catalogue("HuggingFaceTB/SmolLM2-135M")
    assert known is not None
    config = TrainingConfig.model_validate(demo_config(this_installation().cache) | AS_MEASURED)
    planner = Planner(lambda asked: profile_for(known.config, asked), (Target("cpu", "CPU", 16 * GIB),))
    conditions = Conditions(cpu=Cpu(CORES, FLOPS_PER_CORE), lengths=RowLengths(TOKENS, 132))
    found = estimate(planner.plan(config), config, conditions)
    assert found is not None
    assert found.total_s is not None
    assert found.num_steps == NUM_STEPS
    for low, high, truths in ((*found.step_s, [cpu_s / CORES for cpu_s in STEP_CPU_S]), (*found.total_s, RUN_S)):
        assert high / low <= 3
        assert all(low <= truth <= high for truth in truths)
