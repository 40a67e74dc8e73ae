"""Runs that are planned by formula: to trace a step of the tiny model takes four times as long as to train it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import UntraceableError


@contextmanager
def planned_by_formula(cache: Path) -> Iterator[None]:
    """Within the block, trainings of this process take the way of a model whose step cannot be traced. What they keep is
    kept in `cache`, away from what others traced. Processes that are started trace as ever."""
    from lora_backend.modeling import profiling

    def untraceable(*_: Any, **__: Any) -> Any:
        raise UntraceableError("It is not traced here.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiling, "trace_profile", untraceable)
        patch.setenv("FLIGHTDECK_HOME", str(cache))
        yield


@contextmanager
def nothing_expected() -> Iterator[None]:
    """Within the block, a training that is over is not traced once more for the pass that was measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lora_backend.training.recipe.expected_here", lambda *_: [])
        yield
