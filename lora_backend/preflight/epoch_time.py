"""How long an epoch over a data set takes, by the plan, where the model's step was traced before."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.data.data_report import TokenCounts
from lora_backend.hardware.cpu_speed import flops_per_core, training_cores
from lora_backend.planning.cost.row_lengths import RowLengths
from lora_backend.planning.cost.step_time import Cpu
from lora_backend.planning.estimate import Conditions, estimate
from lora_backend.planning.planner import options_of, with_changes
from lora_backend.preflight.plan_question import config_to_plan, known_only, planner_for
from lora_backend.preflight.resolve import ResolvedConfig

MOST_LENGTHS = 1000


def epoch_seconds(resolved: ResolvedConfig, counts: TokenCounts, num_rows: int) -> tuple[float, float] | None:
    """From the fastest to the slowest that is likely, on this machine; None where a card's rates are not known.

    Raises `NotTracedError` where the model's step was not traced with these settings, `FlightdeckError` where it cannot be planned.
    """
    values = {key: value for key, value in resolved.values.items() if key not in ("device_map", "dataset", "max_steps")}
    config = with_changes(config_to_plan(values), num_epochs=1)
    planner, _ = planner_for(resolved.config_json, known_only, resolved.installation, None, config)
    plan = planner.plan(config, options_of(config))
    on_cpu = any(device.target.is_cpu for device in plan.devices)
    cpu = Cpu(training_cores(), flops_per_core()) if on_cpu else Cpu()
    lengths = RowLengths(tuple(counts.quantiles or lengths_of(counts)), num_rows)
    found = estimate(plan, config, Conditions(planner.link_speed, cpu, lengths if lengths.tokens else None, num_rows))
    return None if found is None else found.total_s


def lengths_of(counts: TokenCounts) -> Iterator[int]:
    """Lengths of rows as the histogram has them, each in the middle of its range; of very many rows, in proportion."""
    all_rows = sum(counts.lengths)
    above = 0
    for edge, rows in zip(counts.edges, counts.lengths, strict=False):
        upto = min(edge, max(counts.longest, above + 1))
        share = rows if all_rows <= MOST_LENGTHS else round(rows * MOST_LENGTHS / all_rows)
        yield from [max((above + 1 + upto) // 2, 1)] * share
        above = edge
