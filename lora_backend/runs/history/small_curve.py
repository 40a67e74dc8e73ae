"""A run's loss in few points, for a list that shows many runs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from lora_backend.runs.history.loss_health import GLANCE_BYTES, read_points
from lora_backend.runs.record.run_store import RunStore

MOST_POINTS = 40


def small_curve(run: RunStore) -> tuple[float, ...]:
    """From the first loss to the newest, of a long run from its ends and some places between; read again only where it has grown."""
    try:
        stat = run.metrics_jsonl.stat()
    except OSError:
        return ()
    return _known(run.metrics_jsonl, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _known(path: Path, size_bytes: int, changed_at: int) -> tuple[float, ...]:
    losses = [point.loss for point in read_points(path, GLANCE_BYTES)]
    every = -(-len(losses) // MOST_POINTS) or 1
    return (*losses[:-1:every], *losses[-1:])
