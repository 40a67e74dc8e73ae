"""What would make a run fit, or fit better: each remedy with what it saves and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lora_backend.config.patch import Patch
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError, WorkerError
from lora_backend.i18n import N_, Message
from lora_backend.planning.estimate import Conditions, estimate, flops
from lora_backend.planning.plan import DevicePlan, Options, Plan
from lora_backend.planning.planner import Planner, options_of, with_changes
from lora_backend.planning.processes.dealt import passes_of
from lora_backend.planning.remedies import (
    CHANGES_RESULT,
    KEEP_RESULT,
    ON_TOP,
    WITHOUT_SLOWDOWN,
    Remedy,
    most_saved,
    remedies_for,
)
from lora_backend.planning.targets import GIB
from lora_backend.planning.verdict import ORDER, Verdict

SLOWDOWN_STEP = 5
"""Percent."""
WORTH_SAYING_BYTES = 0.05 * GIB
"""What would be shown as 0.0 GiB is no remedy."""


@dataclass(frozen=True)
class Advice:
    """One remedy."""

    code: str
    change: Patch
    """Empty for one more GPU and for another placement."""
    saves_bytes: int
    """Bytes on all devices together, before minus after; of one more GPU: what it takes off the others."""
    slowdown: float | None
    """Time of a step / time of a step now; None where it changes what is learned, not how fast."""
    fits: bool
    price: Message
    """What it costs, in words."""
    plan: Plan
    """What it comes to."""

    @property
    def verdict(self) -> Verdict:
        return self.plan.verdict

    @property
    def slower_percent(self) -> int:
        """To the nearest 5 %, for it is an estimate; negative where a step is faster, 0 where time is not the price."""
        return SLOWDOWN_STEP * round(100 * ((self.slowdown or 1.0) - 1) / SLOWDOWN_STEP)

    @property
    def is_enough(self) -> bool:
        """Whether nothing else is needed with it: it fits, beyond doubt."""
        return self.verdict == "fits"

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "change": self.change.to_json(),
            "saves_bytes": self.saves_bytes,
            "slowdown": self.slowdown,
            "fits": self.fits,
            "verdict": self.verdict,
        }


def advise(
    planner: Planner,
    config: TrainingConfig,
    plan: Plan,
    options: Options | None = None,
    placed: Sequence[int] | None = None,
) -> Iterator[Advice]:
    """Remedies that save something and leave the fullest device less full, one at a time: whoever takes only the
    first ones waits for no further trace.

    They come as a practitioner would try them: what leaves the result as it is before what changes what is learned, the
    cheapest first; what cannot be enough by itself after those that can. Where none of a group is enough alone, some of
    it together.
    `placed`: `plan` is this placement made by hand, which stays while keys change. Another placement of the same settings
    comes before all else: the best one, or under another goal the balanced one. Raises what the planner raises for a torch process that failed or was cancelled (`WorkerError`).
    """
    asked = _Asked(planner, config, plan, options, None if placed is None else tuple(placed))
    found = list(asked.other_placements())
    yield from found
    later: list[Remedy] = []
    kept: list[Remedy] = []
    changed: list[Remedy] = []
    for remedy in remedies_for(config):
        (changed if remedy[0] in CHANGES_RESULT else kept).append(remedy)
    for remedies, on_top in ((kept, KEEP_RESULT), (changed, ON_TOP)):
        for remedy in remedies:
            if not asked.could_be_enough(remedy[0]):
                later.append(remedy)
            elif (advice := asked.tried(remedy)) is not None:
                found.append(advice)
                yield advice
        if plan.verdict != "fits" and not any(advice.is_enough for advice in found):
            together = asked.together(on_top)
            if together is not None and all(_rank(together) < _rank(advice) for advice in found):
                found.append(together)
                yield together
    for remedy in later:
        if (advice := asked.tried(remedy)) is not None:
            yield advice
    if (more := asked.one_more_gpu()) is not None:
        yield more


def best_first(found: Iterable[Advice]) -> list[Advice]:
    """All of them: those that are enough first, then those that leave it tight; more GPUs after what costs no money."""
    return sorted(found, key=lambda advice: (_rank(advice), advice.code == "one_more_gpu"))


@dataclass(frozen=True)
class _Asked:
    """What remedies are looked for, and what they are held against."""

    planner: Planner
    config: TrainingConfig
    plan: Plan
    options: Options | None
    placed: tuple[int, ...] | None

    def with_config(self, config: TrainingConfig) -> Plan:
        """What the reader would get by changing the config: a placement made by hand stays."""
        if self.placed is not None:
            return self.planner.score(config, self.placed)
        return self.planner.plan(config, self.options)

    def other_placements(self) -> Iterator[Advice]:
        """Less full ones of the same settings: the best, where this one was made by hand, and the balanced, where another
        goal chose it."""
        fullest = self.plan.bottleneck_utilisation
        options = self.options or options_of(self.config)
        ways = [("best_placement", options)] if self.placed is not None else []
        ways += [("balanced", replace(options, goal="balance"))] if options.goal != "balance" else []
        for code, chosen in ways:
            other = self.planner.plan(self.config, chosen)
            if other.bottleneck_utilisation < fullest:
                fullest = other.bottleneck_utilisation
                price = Message(N_("the same settings with a new placement"))
                yield self._advice(code, Patch(), price, other, self.config)

    def could_be_enough(self, code: str) -> bool:
        """Whether it would fit if the remedy took all bytes of the components that it can make smaller."""
        room = [device.target.capacity_bytes for device in self.plan.devices]
        least = [device.breakdown.total - most_saved(code, device.breakdown) for device in self.plan.devices]
        if self.placed is not None:
            return all(one <= other for one, other in zip(least, room, strict=True))
        return sum(least) <= sum(room)

    def tried(self, remedy: Remedy) -> Advice | None:
        """The mildest form of a remedy that is enough, else its strongest; None where it is of no use here."""
        code, changes, price = remedy
        best: Advice | None = None
        for change in changes:
            try:
                changed = with_changes(self.config, **change)
                other = self.with_config(changed)
            except WorkerError:
                raise
            except ValueError:  # a family that does not support it, a value out of bounds: no remedy then
                break
            best = self._advice(code, change, price, other, changed)
            if best.is_enough:
                break
        if best is None or best.saves_bytes < WORTH_SAYING_BYTES:
            return None
        return best if best.plan.bottleneck_utilisation < self.plan.bottleneck_utilisation else None

    def together(self, codes: Sequence[str]) -> Advice | None:
        """Remedies on top of each other until it fits beyond doubt, else the fewest with which it fits at all."""
        changes = Patch()
        changed, held = self.config, _total(self.plan.devices)
        steps = {code: mildest_first for code, mildest_first, _ in remedies_for(self.config)}
        best: Advice | None = None
        for code in codes:
            for step in steps.get(code, ()):
                try:
                    next_config = with_changes(changed, **step)
                    other = self.with_config(next_config)
                except WorkerError:
                    raise
                except ValueError:  # this model does not support it
                    break
                if held - _total(other.devices) < WORTH_SAYING_BYTES:
                    continue
                changed, changes, held = next_config, changes | step, _total(other.devices)
                price = Message(N_("all of these together; none may be enough on its own"))
                advice = self._advice("together", changes, price, other, changed)
                if advice.is_enough:
                    return advice
                if best is None and advice.fits:
                    best = advice
        return best

    def one_more_gpu(self) -> Advice | None:
        """Another card like the largest one here."""
        gpus = [target for target in self.planner.targets if not target.is_cpu]
        if not gpus or self.plan.verdict == "fits" or self.placed is not None or self.plan.is_shared:
            return None
        largest = max(gpus, key=lambda target: target.total_bytes)
        another = replace(largest, device=len(gpus), held_bytes=0, uuid=None)
        larger = replace(self.planner, targets=(*self.planner.targets, another), link_speed=None)
        try:
            other = larger.plan(self.config, self.options)
        except WorkerError:
            raise
        except FlightdeckError:
            return None
        if other.bottleneck_utilisation >= self.plan.bottleneck_utilisation:
            return None
        price = Message(N_("another {name}; layers are spread over one more GPU"), {"name": largest.name})
        return self._advice("one_more_gpu", Patch(), price, other, self.config)

    def _advice(self, code: str, change: Patch, price: Message, other: Plan, changed: TrainingConfig) -> Advice:
        here = other.devices[:-1] if code == "one_more_gpu" else other.devices
        saves_bytes = _total(self.plan.devices) - _total(here)
        slowdown = None if code in WITHOUT_SLOWDOWN else self._slowdown(other, changed)
        return Advice(code, change, saves_bytes, slowdown, other.fits, price, other)

    def _slowdown(self, other: Plan, changed: TrainingConfig) -> float:
        conditions = Conditions(self.planner.link_speed if len(other.devices) == len(self.plan.devices) else None)
        now, then = estimate(self.plan, self.config, conditions), estimate(other, changed, conditions)
        if now is not None and then is not None:
            return sum(then.step_s) / sum(now.step_s)
        return flops(other) / max(flops(self.plan), 1.0) * passes_of(changed) / passes_of(self.config)


def _rank(advice: Advice) -> int:
    return ORDER.index(advice.verdict)


def _total(devices: Iterable[DevicePlan]) -> int:
    return sum(device.breakdown.total for device in devices)
