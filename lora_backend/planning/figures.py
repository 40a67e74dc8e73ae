"""What a plan means for the one who runs it: time, cost, the largest batch and the longest row; as data and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError, WorkerError
from lora_backend.formats import gib, money_range, seconds_range
from lora_backend.i18n import N_, Message, Plural
from lora_backend.planning.cost.row_lengths import Sharing
from lora_backend.planning.cost.step_time import EFFICIENCY, LINK_SHARE
from lora_backend.planning.estimate import Conditions, Estimate, MeanBatch, estimate, mean_batch, sharing_of
from lora_backend.planning.limits import Limit, largest_batch, longest_row
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import Planner
from lora_backend.planning.price import Price
from lora_backend.planning.processes.step_seconds import slowest_note
from lora_backend.planning.split.chosen_split import Goal


@dataclass(frozen=True)
class Figures:
    """Of one plan."""

    goal: Goal
    time: Estimate | None
    """None where a card's rates are not known."""
    cost: tuple[float, float] | None
    """Of the whole run, in `currency`; None where no price or no time is known, or no GPU is used."""
    currency: str | None
    batch: Limit | None
    row: Limit | None
    """None where it cannot be said."""
    conditions: Conditions
    sharing: Sharing
    """How rows share a pass."""
    row_tokens: float | None
    """Of a row, on average, with what its batch pads it by; None where the data's rows are not known."""
    mean_batch: MeanBatch | None
    """None likewise. The plan itself is for the longest batch."""

    def to_json(self) -> dict[str, Any]:
        time = self.time
        return {
            "goal": self.goal,
            "step_seconds": None if time is None else list(time.step_s),
            "num_steps": None if time is None else time.num_steps,
            "total_seconds": None if time is None or time.total_s is None else list(time.total_s),
            "batching": self.sharing,
            "row_tokens": self.row_tokens,
            "mean_batch_tokens": None if self.mean_batch is None else self.mean_batch.tokens,
            "mean_batch_bytes": None if self.mean_batch is None else self.mean_batch.total_bytes,
            "cost": None if self.cost is None else list(self.cost),
            "currency": None if self.cost is None else self.currency,
            "largest_batch": None if self.batch is None else self.batch.value,
            "largest_batch_is_exact": self.batch is not None and self.batch.is_exact,
            "longest_row": None if self.row is None else self.row.value,
            "longest_row_is_exact": self.row is not None and self.row.is_exact,
        }


def figures(
    planner: Planner,
    config: TrainingConfig,
    plan: Plan,
    conditions: Conditions,
    *,
    goal: Goal = "balance",
    price: Price | None = None,
    placed: Sequence[int] | None = None,
) -> Figures:
    """Of a plan that `planner` made of `config`; with a planner that traces nothing, as far as it is known.

    `placed`: the plan is this placement made by hand.
    """
    time = estimate(plan, config, conditions)
    num_gpus = sum(not device.target.is_cpu for device in plan.used) * plan.num_nodes
    cost = time.cost(price.amount, num_gpus) if time is not None and price is not None and num_gpus else None
    sharing, lengths = sharing_of(plan, config), conditions.lengths
    return Figures(
        goal,
        time,
        cost,
        price.currency if price else None,
        _or_none(largest_batch, planner, config, placed),
        _or_none(longest_row, planner, config, placed),
        conditions,
        sharing,
        None if lengths is None else lengths.mean_row(sharing, config.batch_size, config.max_length),
        mean_batch(plan, config, conditions),
    )


def _or_none(limit: Any, planner: Planner, config: TrainingConfig, placed: Sequence[int] | None) -> Limit | None:
    try:
        found: Limit = limit(planner, config, placed)
    except WorkerError:
        raise
    except FlightdeckError:
        return None
    return found if found.value or found.is_exact else None


def figures_in_words(found: Figures, plan: Plan, config: TrainingConfig) -> list[Message]:
    """Sentences for a person; those of which nothing is known are left out."""
    said = [*_times(found), *_limits(found), *mean_in_words(found.mean_batch, plan)]
    return [*said, *time_basis(found.conditions, plan, config)] if found.time is not None else said


def no_time() -> Message:
    """Why there is none."""
    return Message(
        N_("GPUs given only as GiB have no rates, so there are no times for them; name the cards, such as 2xRTX-4090.")
    )


def _times(found: Figures) -> list[Message]:
    time = found.time
    if time is None:
        return [no_time()]
    step = seconds_range(*time.step_s)
    if time.total_s is None:
        said = [Message(N_("A step takes {step}."), {"step": step})]
        return [*said, Message(N_("To see the whole run, give the number of data rows with `--rows`."))]
    said = [Message(N_("A step takes {step}; the run {total}."), {"step": step, "total": seconds_range(*time.total_s)})]
    if found.cost is not None and found.currency:
        said.append(Message(N_("The run costs {cost}."), {"cost": money_range(*found.cost, found.currency)}))
    elif found.currency:
        said.append(Message(N_("This run uses no GPU, so it has no cost.")))
    return said


def _limits(found: Figures) -> list[Message]:
    said = []
    for limit, exactly, at_least in (
        (found.batch, N_("Largest batch that fits: {count}."), N_("Largest batch that fits: {count} or more.")),
        (
            found.row,
            Plural("Longest row that fits: {count} token.", "Longest row that fits: {count} tokens."),
            Plural("Longest row that fits: {count} token or more.", "Longest row that fits: {count} tokens or more."),
        ),
    ):
        if limit is not None and limit.value:
            said.append(Message(exactly if limit.is_exact else at_least, {"count": f"{limit.value:,}"}))
    return said


def mean_in_words(found: MeanBatch | None, plan: Plan) -> list[Message]:
    """What a batch of mean length holds, where that is known; a plan is for the longest."""
    if found is None:
        return []
    said = Message(
        N_(
            "The plan is for the longest batch. A batch of average length ({tokens} tokens) takes {size} on {name}, not {longest}."
        ),
        {
            "tokens": f"{found.tokens:,.0f}",
            "size": gib(found.total_bytes),
            "name": plan.bottleneck.target.label,
            "longest": gib(plan.bottleneck.breakdown.total),
        },
    )
    return [said]


LENGTHS: dict[Sharing, str] = {
    "padded": N_(
        "The time counts the data set's own rows: {tokens} tokens on average, padded to the longest of their batch."
    ),
    "flat": N_("The time counts the data set's own rows: {tokens} tokens on average, without padding."),
    "packed": N_("The time counts the data set's own rows: {tokens} tokens on average, packed into lines of {length}."),
}


def time_basis(conditions: Conditions, plan: Plan, config: TrainingConfig) -> list[Message]:
    """What a time rests on."""
    if conditions.lengths is None:
        said = [
            Message(
                Plural(
                    "The time assumes that every row has {count} token: the data set's own rows are not known.",
                    "The time assumes that every row has {count} tokens: the data set's own rows are not known.",
                ),
                {"count": f"{config.max_length:,}"},
            )
        ]
    else:
        sharing = sharing_of(plan, config)
        tokens = conditions.lengths.mean_row(sharing, config.batch_size, config.max_length)
        said = [Message(LENGTHS[sharing], {"tokens": f"{tokens:,.0f}", "length": f"{config.max_length:,}"})]
    on_cpu = all(device.target.is_cpu for device in plan.used)
    if not on_cpu:
        low, high = (f"{100 * share:.0f}" for share in EFFICIENCY)
        said.append(
            Message(
                N_("It assumes that cards reach {low} to {high}% of their published rates."),
                {"low": low, "high": high},
            )
        )
    elif conditions.cpu.flops_per_core is None:
        said.append(Message(N_("The speed of the CPU is assumed, not measured.")))
    else:
        said.append(Message(N_("The speed of the CPU was measured on this machine.")))
    if plan.is_shared:
        said.append(_links_basis(plan, on_cpu=on_cpu))
    slowest = slowest_note(plan, conditions.cpu)
    return said if slowest is None else [*said, slowest]


def _links_basis(plan: Plan, *, on_cpu: bool) -> Message:
    if plan.num_nodes > 1:
        return Message(N_("The network between machines is assumed: from 10 to 200 Gbit/s."))
    if on_cpu:
        return Message(N_("The processes share the cores of the CPU, so together they are about as fast as one alone."))
    low, high = (f"{100 * share:.0f}" for share in LINK_SHARE)
    return Message(
        N_("Links between GPUs are assumed to reach {low} to {high}% of their rates."), {"low": low, "high": high}
    )
