"""The largest batch and the longest row that still fit."""

from __future__ import annotations

from collections.abc import Callable

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import FlightdeckError, WorkerError
from lora_backend.planning.planner import Planner, with_changes

LARGEST_BATCH = 4096
TOKEN_STEP = 64
"""Row lengths are looked for in steps of so many tokens."""


def largest_batch(planner: Planner, config: TrainingConfig) -> int:
    """The most rows in a forward pass that fit; 0 where not even one does."""
    return _last_that_fits(
        lambda rows: _fits(planner, config, batch_size=rows, target_batch_size=None), LARGEST_BATCH, config.batch_size
    )


def longest_row(planner: Planner, config: TrainingConfig) -> int:
    """The most tokens in a row that fit, in steps of 64, at most the model's positions; 0 where not even 64 do."""
    positions = planner.profile_of(planner.resolved(config)).max_positions or 2**17
    start = max(min(config.max_length, positions) // TOKEN_STEP, 1)
    steps = _last_that_fits(
        lambda count: _fits(planner, config, max_length=count * TOKEN_STEP), positions // TOKEN_STEP, start
    )
    return steps * TOKEN_STEP


def _fits(planner: Planner, config: TrainingConfig, **changes: object) -> bool:
    try:
        return planner.plan(with_changes(config, **changes)).fits
    except WorkerError:  # nothing is known then, least of all that it does not fit
        raise
    except FlightdeckError:
        return False


def _last_that_fits(fits: Callable[[int], bool], highest: int, start: int) -> int:
    """By doubling from `start`, then halving the gap: bytes grow with the number, so what fits is a beginning."""
    low, high = 0, min(max(start, 1), highest)
    while high <= highest and fits(high):
        low, high = high, high * 2
    high = min(high, highest + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
