"""The largest batch and the longest row that still fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError, WorkerError
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.planner import NotTracedError, Planner, with_changes
from lora_backend.planning.processes.dealt import passes_of

LARGEST_BATCH = 4096
TOKEN_STEP = 64
"""Row lengths are looked for in steps of so many tokens."""


@dataclass(frozen=True)
class Limit:
    """The most of something that fits; 0 where not even the least does."""

    value: int
    is_exact: bool = True
    """False where more may fit: nobody has traced yet what it takes."""


def largest_batch(planner: Planner, config: TrainingConfig, placed: Sequence[int] | None = None) -> Limit:
    """The most rows in a forward pass that fit, on a placement made by hand if there is one.

    With a planner that traces nothing it says how far that is known.
    """
    fits = _Fits(planner, config, placed)
    # Several processes share a step's micro-batches, so it keeps as many.
    passes = passes_of(config) if config.strategy in ("ddp", "fsdp") else None
    return _last_that_fits(
        lambda rows: fits(batch_size=rows, target_batch_size=passes and rows * passes), LARGEST_BATCH, config.batch_size
    )


def longest_row(planner: Planner, config: TrainingConfig, placed: Sequence[int] | None = None) -> Limit:
    """The most tokens in a row that fit, in steps of 64, at most the model's positions; likewise."""
    fits = _Fits(planner, config, placed)
    positions = fits.profile.max_positions or 2**17
    start = max(min(config.max_length, positions) // TOKEN_STEP, 1)
    steps = _last_that_fits(lambda count: fits(max_length=count * TOKEN_STEP), positions // TOKEN_STEP, start)
    return Limit(steps.value * TOKEN_STEP, steps.is_exact)


class _Fits:
    """Whether a config with some changes fits; None where nobody has traced what it takes."""

    def __init__(self, planner: Planner, config: TrainingConfig, placed: Sequence[int] | None) -> None:
        self.profile = planner.profile(config)
        self._config, self._placed = config, placed
        self._planner = replace(planner, profile_of=self._profile_of, link_speed=None)
        self._other = planner.profile_of

    def __call__(self, **changes: object) -> bool | None:
        try:
            changed = with_changes(self._config, **changes)
            if self._placed is not None:
                return self._planner.score(changed, self._placed).fits
            return self._planner.plan(changed).fits
        except NotTracedError:
            return None
        except WorkerError:  # nothing is known then, least of all that it does not fit
            raise
        except FlightdeckError:
            return False

    def _profile_of(self, config: TrainingConfig) -> Profile:
        """One profile is for every size that has the same settings, and need not be read anew for each."""
        profile = self.profile
        asked = TraceSettings.of(config, profile.settings.precision, profile.windows, profile.tile_tokens)
        return profile if profile.serves(asked) else self._other(config)


def _last_that_fits(fits: Callable[[int], bool | None], highest: int, start: int) -> Limit:
    """By doubling from `start`, then halving the gap: bytes grow with the number, so what fits is a beginning."""
    low, high = 0, min(max(start, 1), highest)
    known: dict[int, bool | None] = {}

    def does(number: int) -> bool:
        known[number] = fits(number)
        return bool(known[number])

    while high <= highest and does(high):
        low, high = high, high * 2
    high = min(high, highest + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if does(middle) else (low, middle)
    return Limit(low, high > highest or known.get(high) is False)
