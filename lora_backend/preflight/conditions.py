"""What a time depends on beside the plan, as it is here: links, cores, and the data's own rows."""

from __future__ import annotations

from collections.abc import Sequence

from lora_backend.hardware.cpu_speed import flops_per_core, training_cores
from lora_backend.planning.cost.step_time import Cpu, LinkSpeed
from lora_backend.planning.estimate import Conditions
from lora_backend.planning.targets import Target
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.token_counts import row_lengths


def conditions_for(
    resolved: ResolvedConfig,
    targets: Sequence[Target],
    link_speed: LinkSpeed | None = None,
    num_rows: int | None = None,
) -> Conditions:
    """For a run of a config on `targets`. `num_rows`: in the place of the data set's own number.

    The cores are measured only where they would train.
    """
    on_cpu = any(target.is_cpu for target in targets)
    cpu = Cpu(training_cores(), flops_per_core()) if on_cpu else Cpu()
    return Conditions(link_speed, cpu, row_lengths(resolved), num_rows)
