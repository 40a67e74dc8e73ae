"""What `strategy: auto` comes to: the fastest way to train a config that fits, and why it is that one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError
from lora_backend.formats import two_digits
from lora_backend.i18n import N_, Message
from lora_backend.planning.estimate import Conditions
from lora_backend.planning.planner import Planner
from lora_backend.planning.processes.dealt import passes_of, rounds_of
from lora_backend.planning.targets import Target
from lora_backend.planning.verdict import ORDER
from lora_backend.planning.ways import Way, WayCode, way_of

AS_FAST = 0.01
"""Steps whose times differ by less count as equally fast: then fewer GPUs are better."""
WITHOUT_RATES: tuple[WayCode, ...] = ("ddp", "single", "fsdp", "layer_split", "fsdp_offload")
"""Which is preferred where a card's rates are not known."""


@dataclass(frozen=True)
class Choice:
    """The way that is taken, and why."""

    way: Way
    reason: Message


def fastest_that_fits(
    planner: Planner, config: TrainingConfig, targets: Sequence[Target], conditions: Conditions | None = None
) -> Choice:
    """The shortest step among the ways that fit beyond doubt, else among those that are tight, else the one that is least over.

    Only ways that leave the result as it is: nothing is quantized. Weights go to host memory only where nothing fits without.
    `num_processes` of the config is kept; where it says nothing, so many processes are tried as make a step shorter. More
    than one machine leaves `ddp` and `fsdp`. Raises what the planner raises where no way can be planned at all.
    """
    conditions = conditions or Conditions(planner.link_speed)
    ways = [
        way_of(code, planner, config, targets, conditions, num_processes=count)
        for code in _codes(config)
        for count in _counts(code, config, targets)
    ]
    if not any(way.plan is not None and way.plan.fits for way in ways) and _may_share(config, targets):
        ways.append(way_of("fsdp_offload", planner, config, targets, conditions))
    possible = [way for way in ways if way.plan is not None]
    if not possible:
        said = ways[0].reason
        assert said is not None
        raise FlightdeckError(said.template, **said.values)
    best = _best(possible)
    return Choice(best, _why(best, ways, config, targets))


def _codes(config: TrainingConfig) -> tuple[WayCode, ...]:
    if config.num_nodes > 1 or (config.num_processes or 1) > 1:
        return ("ddp", "fsdp")
    return ("single", "layer_split") if config.num_processes == 1 else ("single", "layer_split", "ddp", "fsdp")


def _may_share(config: TrainingConfig, targets: Sequence[Target]) -> bool:
    return "fsdp" in _codes(config) and not all(target.is_cpu for target in targets)


def _counts(code: WayCode, config: TrainingConfig, targets: Sequence[Target]) -> list[int | None]:
    """Numbers of processes to try: of those with equally many passes one after the other the fewest."""
    gpus = sum(not target.is_cpu for target in targets)
    if code not in ("ddp", "fsdp") or config.num_processes is not None or gpus < 2:
        return [None]
    most = min(gpus, passes_of(config) // config.num_nodes)
    rounds = {count: rounds_of(config, count * config.num_nodes) for count in range(most, 0, -1)}
    fewest: dict[int, int] = {number: count for count, number in rounds.items()}
    found = {count for count in fewest.values() if count * config.num_nodes > 1}
    if code == "fsdp" and most > 1:
        found.add(most)  # the more there are, the smaller their shares
    return [*sorted(found)] or [None]


def _best(ways: Sequence[Way]) -> Way:
    group = min(ORDER.index(way.plan.verdict) for way in ways if way.plan)
    alike = [way for way in ways if way.plan and ORDER.index(way.plan.verdict) == group]
    if ORDER[group] == "over":
        return min(alike, key=lambda way: way.plan.bottleneck_utilisation if way.plan else 0.0)
    times = [way.time for way in alike]
    if any(time is None for time in times):
        return min(alike, key=lambda way: (WITHOUT_RATES.index(way.code), -way.num_gpus))
    least = min(_middle(way) for way in alike)
    quick = [way for way in alike if _middle(way) <= least * (1 + AS_FAST)]
    return min(quick, key=lambda way: (way.num_gpus, _middle(way)))


def _middle(way: Way) -> float:
    assert way.time is not None
    return sum(way.time.step_s) / 2


WORDS: dict[WayCode, Any] = {
    "single": N_("one GPU"),
    "layer_split": N_("split across {count} GPUs"),
    "ddp": N_("ddp on {count} GPUs"),
    "fsdp": N_("fsdp on {count} GPUs"),
    "fsdp_offload": N_("fsdp on {count} GPUs, weights in host memory"),
}


def way_in_words(way: Way) -> Message:
    """`ddp on 4 GPUs`."""
    if way.plan is not None and way.plan.used and way.plan.used[0].target.is_cpu:
        if way.plan.is_shared:
            return Message(
                N_("{way} in {count} processes on the CPU"), {"way": way.plan.strategy, "count": way.plan.num_processes}
            )
        return Message(N_("one process on the CPU"))
    return Message(WORDS[way.code], {"count": way.num_gpus})


def _why(best: Way, ways: Sequence[Way], config: TrainingConfig, targets: Sequence[Target]) -> Message:
    """`ddp on 4 GPUs: 3.1 to 3.6 times one GPU's pace.`"""
    assert best.plan is not None
    words = {"way": way_in_words(best)}
    if not best.plan.fits:
        return Message(N_("{way}: nothing fits, and this comes closest."), words)
    single = next((way for way in ways if way.code == "single"), None)
    gpus = sum(not target.is_cpu for target in targets)
    if best.code == "single":
        if gpus < 2:
            return Message(N_("{way}: there is no other device."), words)
        if passes_of(config) < 2:
            return Message(
                N_("{way}: an optimizer step has one micro-batch, so there is nothing to share among GPUs."), words
            )
        return Message(N_("{way}: no other way that fits is faster."), words)
    if single is None or single.plan is None:
        return Message(N_("{way}: the fastest that fits."), words)
    if not single.plan.fits:
        return Message(N_("{way}: one GPU alone does not hold it."), words)
    if single.time is None or best.time is None:
        return Message(N_("{way}: the fastest that fits, as far as can be told without the cards' rates."), words)
    low, high = sorted(one / other for one, other in zip(single.time.step_s, best.time.step_s, strict=True))
    if low <= 1:
        return Message(N_("{way}: on one GPU alone it would be tight."), words)
    values = {**words, "low": two_digits(low), "high": two_digits(high)}
    if values["low"] == values["high"]:
        return Message(N_("{way}: about {low} times one GPU's pace."), values)
    return Message(N_("{way}: {low} to {high} times one GPU's pace."), values)
