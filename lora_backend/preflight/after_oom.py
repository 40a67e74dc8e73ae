"""What the planner proposes for a run that ran out of memory."""

from __future__ import annotations

from lora_backend.errors import ModelError
from lora_backend.planning.advice import Advice
from lora_backend.preflight.placement import advice_for, plan_start
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.resolve import ResolvedConfig

OUT_OF_MEMORY = frozenset({"gpu_out_of_memory", "host_out_of_memory", "out_of_memory", "oom_killer"})
"""Causes of a failure that a smaller plan may cure."""


def remedies(resolved: ResolvedConfig, trace: Trace) -> list[Advice]:
    """Changes of the config that save memory on the devices that it would have now, the best first.

    Raises `ModelError` where the model cannot be planned, with the reason.
    """
    start = plan_start(resolved, trace)
    if start.plan is None:
        raise ModelError("{reason}", reason=start.note)
    return [advice for advice in advice_for(start, resolved.config) if advice.change]
