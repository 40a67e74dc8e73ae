"""What each difference of a config really does: the config is planned and resolved with the key and without it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lora_backend.config.key_queries import PATTERN_KEYS, keys_affecting
from lora_backend.config.schema import KEYS, TrainingConfig
from lora_backend.errors import ExpressionError, FlightdeckError
from lora_backend.i18n import N_, Message
from lora_backend.planning.estimate import Conditions, estimate, num_steps
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import Planner
from lora_backend.verification.rank_report import expected_ranks

PLANNED = keys_affecting("memory")
"""Keys that a plan depends on."""
RANKED = keys_affecting("ranks")
STEPPED = keys_affecting("steps")


@dataclass(frozen=True)
class Consequence:
    """One key: with it against without it. None where a figure cannot be had, or the key has no part in it."""

    bytes_on_fullest: int | None = None
    """More (or, negative, fewer) bytes on the fullest device."""
    step_time: float | None = None
    """Time of a step with it / without it."""
    trainable: int | None = None
    """More (or fewer) trained parameters."""
    steps: int | None = None
    """More (or fewer) optimizer steps."""
    layers: tuple[str, ...] = ()
    """Layers whose rank is another one with it."""
    without_effect: Message | None = None
    """Why the key does nothing here."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be said of it."""
        figures = (self.bytes_on_fullest, self.step_time, self.trainable, self.steps)
        return self.without_effect is None and not self.layers and not any(figures)


def consequences(
    values: Mapping[str, Any],
    base: Mapping[str, Any],
    keys: Collection[str],
    planner: Planner | None,
    *,
    linear_names: Sequence[str] = (),
    num_rows: int | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Consequence]:
    """For each of `keys`, what `values` does differently from `values` with that one key as in `base`.

    A key that `base` lacks is left out there. `linear_names`: the model's linear layers; without them nothing is said of
    ranks. `planner`: None where the model's facts are not known. `report` is told each key before it is looked at.
    """
    whole = _typed(values)
    if whole is None:
        return {}
    found = {}
    for key in keys:
        if key not in KEYS:
            continue
        report(key)
        other = {name: value for name, value in values.items() if name != key}
        if key in base and base[key] is not None:
            other[key] = base[key]
        without = _typed(other)
        if without is not None:
            try:
                found[key] = _consequence(key, whole, without, planner, linear_names, num_rows)
            except ExpressionError:  # the check says which; what it does cannot be told
                found[key] = Consequence()
    return found


def _consequence(
    key: str,
    whole: TrainingConfig,
    without: TrainingConfig,
    planner: Planner | None,
    linear_names: Sequence[str],
    num_rows: int | None,
) -> Consequence:
    switched_off = why_without_effect(key, whole)
    if switched_off is not None:
        return Consequence(without_effect=switched_off)
    layers = _changed_layers(whole, without, linear_names) if key in RANKED | {"alpha_pattern"} else ()
    if key in PATTERN_KEYS and linear_names and not _pattern_matches(key, whole, without, linear_names):
        return Consequence(without_effect=Message(N_("Its patterns match no layer that gets an adapter.")))
    size = speed = trainable = None
    if planner is not None and key in PLANNED:
        with_it, without_it = _plan(planner, whole), _plan(planner, without)
        if with_it is not None and without_it is not None:
            size = with_it.bottleneck.breakdown.total - without_it.bottleneck.breakdown.total
            trainable = with_it.profile.trainable(whole.r) - without_it.profile.trainable(without.r)
            speed = _speed(with_it, whole, without_it, without, Conditions(planner.link_speed))
    steps = None
    if key in STEPPED:
        counts = num_steps(whole, num_rows), num_steps(without, num_rows)
        steps = counts[0] - counts[1] if counts[0] is not None and counts[1] is not None else None
    if key in RANKED and linear_names and not layers and not size and not trainable:
        return Consequence(without_effect=Message(N_("No rank changes, so it has no effect.")))
    return Consequence(size, speed, trainable, steps, layers)


def why_without_effect(key: str, config: TrainingConfig) -> Message | None:
    """Why another key, as it stands, switches `key` off; None where none does."""
    found = next((reason for switch, reason in SWITCHED_OFF.get(key, ()) if switch(config)), None)
    return None if found is None else Message(found)


Switch = Callable[[TrainingConfig], bool]
_BALANCING_OFF: tuple[tuple[Switch, str], ...] = (
    (lambda c: c.device_map is not None, N_("`device_map` is set and takes precedence.")),
    (lambda c: not c.is_balanced, N_("`use_balanced_device_map` is off.")),
)
SWITCHED_OFF: dict[str, tuple[tuple[Switch, str], ...]] = {
    "num_epochs": ((lambda c: c.max_steps is not None, N_("`max_steps` ends training regardless of this.")),),
    "warmup_ratio": (
        (lambda c: c.lr_scheduler_type == "constant", N_("`lr_scheduler_type: constant` has no warm-up.")),
    ),
    "eval_steps": ((lambda c: c.eval_strategy != "steps", N_("`eval_strategy` is not `steps`.")),),
    "val_size": ((lambda c: c.eval_strategy == "no" and c.val_size == 0, N_("No rows are held out.")),),
    "eval_dataset": ((lambda c: c.eval_strategy == "no", N_("`eval_strategy` is no, so nothing is evaluated.")),),
    "use_balanced_device_map": _BALANCING_OFF[:1],
    "strategy": _BALANCING_OFF[:1],
    "force_balance": _BALANCING_OFF,
    "exclude_cpu": _BALANCING_OFF,
    "min_memory_gb": (
        *_BALANCING_OFF,
        (lambda c: c.force_balance, N_("`force_balance` uses every GPU, however much memory it has.")),
    ),
    "target_batch_size": ((lambda c: c.target_batch_size == c.batch_size, N_("It is `batch_size`, as without it.")),),
    "version": ((lambda c: c.pkg is None, N_("Without `pkg` nothing is published.")),),
    "knowledge_type": ((lambda c: c.pkg is None, N_("Without `pkg` nothing is published.")),),
    "overwrite": ((lambda c: c.pkg is None, N_("Without `pkg` nothing is published.")),),
    "output_dir": ((lambda c: c.pkg is None, N_("Without `pkg` nothing is published.")),),
}
"""Key → when it does nothing, and why."""


def _typed(values: Mapping[str, Any]) -> TrainingConfig | None:
    try:
        return TrainingConfig.model_validate(dict(values))
    except ValidationError:
        return None


def _plan(planner: Planner, config: TrainingConfig) -> Plan | None:
    try:
        return planner.plan(config)
    except FlightdeckError:  # a value that this model or these devices do not allow; the findings say so
        return None


def _speed(
    with_it: Plan, whole: TrainingConfig, without_it: Plan, without: TrainingConfig, conditions: Conditions
) -> float | None:
    now, then = estimate(with_it, whole, conditions), estimate(without_it, without, conditions)
    if now is None or then is None:
        return None
    return sum(now.step_s) / sum(then.step_s)


def _changed_layers(whole: TrainingConfig, without: TrainingConfig, linear_names: Sequence[str]) -> tuple[str, ...]:
    with_it, without_it = _ranks(whole, linear_names), _ranks(without, linear_names)
    return tuple(name for name in linear_names if with_it.get(name) != without_it.get(name))


def _pattern_matches(key: str, whole: TrainingConfig, without: TrainingConfig, linear_names: Sequence[str]) -> bool:
    """Whether a pattern finds a layer: tried by giving each a rank that no other entry gives."""
    pattern = getattr(whole, key) or getattr(without, key) or {}
    probe = whole.model_copy(update={"rank_pattern": dict.fromkeys(pattern, whole.r + 1)})
    return any(rank == whole.r + 1 for rank in _ranks(probe, linear_names).values())


def _ranks(config: TrainingConfig, linear_names: Sequence[str]) -> dict[str, int]:
    try:
        return expected_ranks(config.model_dump(), linear_names)
    except ExpressionError:
        raise
    except (TypeError, ValueError, AttributeError):
        return {}
