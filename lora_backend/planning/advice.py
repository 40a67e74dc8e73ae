"""What would make a run fit, or fit better: each remedy with what it saves and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError, WorkerError
from lora_backend.i18n import N_, Message
from lora_backend.planning.estimate import Conditions, estimate, flops, passes_of
from lora_backend.planning.memory import RESERVE, Breakdown
from lora_backend.planning.plan import DevicePlan, Options, Plan
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import GIB
from lora_backend.planning.verdict import ORDER, Verdict

CHANGES_RESULT = ("quantization", "fewer_targets", "shorter_rows", "one_more_gpu")
"""Remedies that change what is learned, or need hardware."""
WITHOUT_SLOWDOWN = ("fewer_targets", "shorter_rows")
"""Remedies whose price is in what is learned, not in time."""
KEEP_RESULT = ("chunked_loss", "gradient_checkpointing", "smaller_batch", "optimizer_8bit")
"""Remedies that cost time at most, in the order in which they are tried on top of each other."""
ON_TOP = (*KEEP_RESULT, "quantization", "shorter_rows")
"""Likewise, where those are not enough; rows are cut off last."""
SHRINKS = {
    "chunked_loss": ("logits",),
    "gradient_checkpointing": ("activations",),
    "smaller_batch": ("activations", "logits"),
    "optimizer_8bit": ("optimizer",),
    "quantization": ("weights", "activations"),
    "fewer_targets": ("adapter", "gradients", "optimizer", "activations"),
    "shorter_rows": ("activations", "logits"),
}
"""Components that a remedy can make smaller: it saves at most all of them."""
ATTENTION_TARGETS = ["q_proj", "v_proj"]
SHORTEST_ROW = 64
"""Tokens; rows are not halved below."""
MOST_HALVINGS = 2
"""Of the rows: whoever trains on 2,048 tokens does not want 256 of them."""
SLOWDOWN_STEP = 5
"""Percent."""
WORTH_SAYING_BYTES = 0.05 * GIB
"""What would be shown as 0.0 GiB is no remedy."""


@dataclass(frozen=True)
class Advice:
    """One remedy."""

    code: str
    change: dict[str, Any]
    """Keys of the config and the values to give them; empty for one more GPU and for another placement."""
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
            "change": self.change,
            "saves_bytes": self.saves_bytes,
            "slowdown": self.slowdown,
            "fits": self.fits,
            "verdict": self.verdict,
        }


Remedy = tuple[str, Sequence[dict[str, Any]], Message]
"""Code, changes from the mildest to the strongest, and the price in words."""


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
    `placed`: `plan` is this placement made by hand, which stays while keys change; the best placement is then the
    first remedy. Raises what the planner raises for a torch process that failed or was cancelled (`WorkerError`).
    """
    asked = _Asked(planner, config, plan, options, None if placed is None else tuple(placed))
    found = [advice for advice in [asked.best_placement()] if advice is not None]
    yield from found
    later: list[Remedy] = []
    kept, changed = [], []
    for remedy in _remedies(config):
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

    def best_placement(self) -> Advice | None:
        if self.placed is None:
            return None
        best = self.planner.plan(self.config, self.options)
        if best.bottleneck_utilisation >= self.plan.bottleneck_utilisation:
            return None
        return self._advice("best_placement", {}, Message(N_("the same settings, placed anew")), best, self.config)

    def could_be_enough(self, code: str) -> bool:
        """Whether it would fit if the remedy took all bytes of the components that it can make smaller."""
        room = [device.target.capacity_bytes for device in self.plan.devices]
        least = [device.breakdown.total - _most_saved(code, device.breakdown) for device in self.plan.devices]
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
        changes: dict[str, Any] = {}
        changed, held = self.config, _total(self.plan.devices)
        steps = {code: mildest_first for code, mildest_first, _ in _remedies(self.config)}
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
                price = Message(N_("all of these together; none alone is enough"))
                advice = self._advice("together", changes, price, other, changed)
                if advice.is_enough:
                    return advice
                if best is None and advice.fits:
                    best = advice
        return best

    def one_more_gpu(self) -> Advice | None:
        """Another card like the largest one here."""
        gpus = [target for target in self.planner.targets if not target.is_cpu]
        if not gpus or self.plan.verdict == "fits" or self.placed is not None:
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
        return self._advice("one_more_gpu", {}, price, other, self.config)

    def _advice(
        self, code: str, change: dict[str, Any], price: Message, other: Plan, changed: TrainingConfig
    ) -> Advice:
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


def _remedies(config: TrainingConfig) -> Iterator[Remedy]:
    """In the order of a practitioner."""
    if config.loss_type == "nll":
        yield (
            "chunked_loss",
            [{"loss_type": "chunked_nll"}],
            Message(N_("the same loss, computed in tiles; about as fast")),
        )
    if not config.gradient_checkpointing:
        yield (
            "gradient_checkpointing",
            [{"gradient_checkpointing": True}],
            Message(N_("activations are computed twice")),
        )
    if config.batch_size > 1:
        yield "smaller_batch", _smaller_batches(config), Message(N_("more passes for each step, with the same rows in it"))  # fmt: skip
    if config.optim in ("adamw_torch", "adamw_torch_fused"):
        yield "optimizer_8bit", [{"optim": "adamw_8bit"}], Message(N_("the optimizer's states in 8 bits; needs bitsandbytes"))  # fmt: skip
    if config.quantization is None and config.precision != "fp32":
        yield "quantization", [{"quantization": "nf4"}], Message(N_("weights in 4 bits: a little less exact, and unpacked for each product"))  # fmt: skip
    if config.target_modules == "all-linear":
        yield "fewer_targets", [{"target_modules": ATTENTION_TARGETS}], Message(N_("only attention is adapted: fewer trained parameters"))  # fmt: skip
    if config.max_length >= 2 * SHORTEST_ROW:
        yield "shorter_rows", _shorter_rows(config), Message(N_("rows that are longer are cut off"))


def _smaller_batches(config: TrainingConfig) -> list[dict[str, Any]]:
    """Halves of the batch down to one row, each with the rows of a step that are there now, as far as it divides them."""
    effective = config.target_batch_size or config.batch_size
    found, half = [], config.batch_size // 2
    while half:
        target = effective if effective % half == 0 else half * (effective // half)
        found.append({"batch_size": half, "target_batch_size": target})
        half //= 2
    return found


def _shorter_rows(config: TrainingConfig) -> list[dict[str, Any]]:
    halves = [config.max_length // 2**halvings for halvings in range(1, MOST_HALVINGS + 1)]
    return [{"max_length": half} for half in halves if half >= SHORTEST_ROW]


def _rank(advice: Advice) -> int:
    return ORDER.index(advice.verdict)


def _most_saved(code: str, held: Breakdown) -> float:
    """All of the components that a remedy can make smaller, and the reserve that is kept for them."""
    return sum(getattr(held, name) for name in SHRINKS[code]) * (1 + RESERVE)


def _total(devices: Iterable[DevicePlan]) -> int:
    return sum(device.breakdown.total for device in devices)
